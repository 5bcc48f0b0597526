-- What happened to workspaces is found by the workspace, and people's events are most.
CREATE INDEX events_client ON events (client_id, at) WHERE client_id IS NOT NULL;
