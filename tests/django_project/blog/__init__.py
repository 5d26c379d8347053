"""An application with models to watch."""
