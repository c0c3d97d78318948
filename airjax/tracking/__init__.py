"""Objects of the frames of a video, linked into tracks."""
