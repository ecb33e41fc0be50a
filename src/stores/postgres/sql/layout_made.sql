-- Notes that a step of the layout was made. $1 the step. No row.
INSERT INTO alongside.layout (step) VALUES ($1) ON CONFLICT DO NOTHING
