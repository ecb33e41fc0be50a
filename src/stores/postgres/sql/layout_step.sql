-- The last step of our own tables' layout that was made; NULL before the first. Takes no lock; one row.
SELECT max(step) FROM alongside.layout
