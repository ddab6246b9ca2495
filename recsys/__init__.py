"""What features are worth to a recommender: interactions, two models, their floor, and the measures."""
