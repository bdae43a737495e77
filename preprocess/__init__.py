"""Media to face crops: sources, readers, detection, tracking, cutting, the manifest, and the extract verb."""
