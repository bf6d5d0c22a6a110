"""What comes by itself: new files of a folder, frames of a video, a camera or a stream, and what is said of the whole run."""
