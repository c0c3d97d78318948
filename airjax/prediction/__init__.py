"""Reading many pictures with a trained model, on one machine or on several."""
