"""From feedback to weights: joins labels to answers, learns with replay, gates, requantizes, publishes."""
