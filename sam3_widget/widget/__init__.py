"""Views: anywidget classes that parse messages, call the document and show what it says."""
