-- Why the last attempt to mail an event failed. Empty: it was not tried yet, or is being tried.
ALTER TABLE events ADD COLUMN tell_result TEXT NOT NULL DEFAULT '';
