"""Where a run is heading while it trains, judged by the finished runs of its study."""
