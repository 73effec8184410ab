"""Video files through PyAV: upright frames with exact times in and out, and all that travels beside them."""
