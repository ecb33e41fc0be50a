-- Writes down what is done to a row, in the transaction that does it. $1 migration UID, $2 phase, $3 attempt, $4 table,
-- $5 its columns, $6 the row's key, $7 kind, $8 and $9 its contents before and after. No row.
INSERT INTO alongside.repair (migration_uid, phase, attempt, table_name, columns, key, kind, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
