//! Our own rules, for what squawk doesn't look at, or looks at in other terms.

use std::collections::BTreeSet;

use squawk_syntax::{
    SyntaxKind,
    ast::{self, AstNode},
};

use super::{
    super::script::{has_token, node_text},
    Hit, Subject, Weight, bare_name, table_of,
};

/// A rule's name, its weight, what is wrong, and what to do instead.
type Rule = (&'static str, Weight, &'static str, &'static str);

const TRANSACTION_CONTROL: Rule = (
    "transaction-control",
    Weight::Never,
    "The script begins or ends a transaction by itself.",
    "Leave it out: each script runs in one transaction together with its history row. Where parts must commit one after \
     the other, make them scripts of their own.",
);
const CLIENT_COPY: Rule = (
    "client-copy",
    Weight::Never,
    "COPY to or from the client has no client to talk to.",
    "Write INSERT, or move the data with a `job`.",
);
const SESSION_RESET: Rule = (
    "session-reset",
    Weight::Never,
    "This also gives up the lock that keeps a second worker away.",
    "Leave it out; each script begins with the session's defaults.",
);
const ALTER_SYSTEM: Rule = (
    "alter-system",
    Weight::Never,
    "ALTER SYSTEM changes every database of the server, for good.",
    "Change the server's settings where they are managed, or use SET, ALTER ROLE or ALTER DATABASE.",
);
const DROP_DATABASE: Rule = (
    "drop-database",
    Weight::Never,
    "DROP DATABASE leaves nothing to go back to.",
    "Drop it by hand once the migration is over.",
);
const SERVER_WIDE: Rule = (
    "server-wide-object",
    Weight::Blocks,
    "Roles, databases and tablespaces belong to the whole server: a rehearsal or a rollback can't keep them to this \
     database.",
    "Manage them where the server is managed; accept the rule if this script is that place.",
);
const VACUUM_FULL: Rule = (
    "vacuum-full",
    Weight::Blocks,
    "VACUUM FULL copies the whole table under an ACCESS EXCLUSIVE lock: nobody reads or writes meanwhile.",
    "Write a plain VACUUM, or shrink the table with pg_repack or pg_squeeze.",
);
const CLUSTER: Rule = (
    "cluster",
    Weight::Blocks,
    "CLUSTER copies the whole table under an ACCESS EXCLUSIVE lock: nobody reads or writes meanwhile.",
    "Reorder the table with pg_repack or pg_squeeze.",
);
const LOCK_TABLE: Rule = (
    "lock-table",
    Weight::Blocks,
    "LOCK TABLE makes users wait until the script's transaction ends.",
    "Leave it out: each statement takes the lock it needs; make the step safe by a constraint or a unique index.",
);
const WHOLE_TABLE_UPDATE: Rule = (
    "whole-table-update",
    Weight::Blocks,
    "An UPDATE of every row holds all their locks until the script ends, and leaves as many dead rows.",
    "Write it in batches by key in a `job` phase, or narrow it with WHERE.",
);
const WHOLE_TABLE_DELETE: Rule = (
    "whole-table-delete",
    Weight::Blocks,
    "A DELETE of every row holds all their locks until the script ends, and can't be taken back.",
    "Write it in batches by key in a `job` phase, or narrow it with WHERE.",
);
const TRUNCATE: Rule = (
    "truncate",
    Weight::Breaks,
    "TRUNCATE empties the table for both sides, under an ACCESS EXCLUSIVE lock.",
    "Do it in a phase with `pointOfNoReturn: true`, after the bake.",
);
const TABLE_REWRITE: Rule = (
    "table-rewrite",
    Weight::Blocks,
    "This writes the whole table anew under an ACCESS EXCLUSIVE lock: nobody reads or writes meanwhile.",
    "Add a nullable column, fill it in batches, then set its default or identity; or make a new table and move over.",
);
const BLOCKING_REFRESH: Rule = (
    "blocking-refresh",
    Weight::Blocks,
    "REFRESH MATERIALIZED VIEW makes readers wait until it is done.",
    "Write REFRESH MATERIALIZED VIEW CONCURRENTLY, for which the view needs a unique index.",
);
const BLOCKING_REINDEX: Rule = (
    "blocking-reindex",
    Weight::Blocks,
    "REINDEX of a schema or database takes lock after lock and makes users wait.",
    "Write REINDEX INDEX CONCURRENTLY or REINDEX TABLE CONCURRENTLY for those that need it.",
);
const DROP_CASCADE: Rule = (
    "drop-cascade",
    Weight::Changes,
    "CASCADE drops whatever depends on it, without naming it.",
    "Drop each dependent object by its name first.",
);

/// Runs our own rules over one script.
pub(super) fn look(subject: &Subject<'_>, created: &BTreeSet<String>, hits: &mut Vec<Hit>) {
    for stmt in subject.script.tree.tree().stmts() {
        let at = usize::from(stmt.syntax().text_range().start());
        let rules = rules_hit(&stmt).into_iter().chain(whole_table_writes(&stmt, created));
        let of_new_table = table_of(&stmt).is_some_and(|table| created.contains(&table));
        hits.extend(rules.filter(|(_, weight, ..)| !(of_new_table && *weight == Weight::Blocks)).map(
            |(rule, weight, message, advice)| Hit {
                rule: rule.to_owned(),
                weight,
                at,
                message: message.to_owned(),
                advice,
            },
        ));
    }
}

fn rules_hit(stmt: &ast::Stmt) -> Vec<Rule> {
    let mut rules = Vec::new();
    match stmt {
        ast::Stmt::Begin(_) | ast::Stmt::Commit(_) | ast::Stmt::PrepareTransaction(_) => {
            rules.push(TRANSACTION_CONTROL);
        }
        ast::Stmt::Rollback(rollback) => match rollback {
            ast::Rollback::RollbackToSavepoint(_) => {}
            ast::Rollback::RollbackTransaction(_) | ast::Rollback::RollbackPrepared(_) => {
                rules.push(TRANSACTION_CONTROL);
            }
        },
        ast::Stmt::Copy(copy) => {
            let through_client = match copy.copy_direction() {
                Some(ast::CopyDirection::CopyFrom(from)) => {
                    matches!(from.copy_source(), Some(ast::CopySource::CopyStdin(_) | ast::CopySource::CopyStdout(_)))
                }
                Some(ast::CopyDirection::CopyTo(to)) => {
                    matches!(to.copy_target(), Some(ast::CopyTarget::CopyStdout(_)))
                }
                None => false,
            };
            if through_client {
                rules.push(CLIENT_COPY);
            }
        }
        ast::Stmt::Discard(discard) => {
            if matches!(discard.discard_target(), Some(ast::DiscardTarget::DiscardAll(_))) {
                rules.push(SESSION_RESET);
            }
        }
        ast::Stmt::Select(select) if node_text(select.syntax()).to_ascii_lowercase().contains("pg_advisory_unlock") => {
            rules.push(SESSION_RESET);
        }
        ast::Stmt::AlterSystem(_) => rules.push(ALTER_SYSTEM),
        ast::Stmt::DropDatabase(_) => rules.push(DROP_DATABASE),
        ast::Stmt::CreateRole(_)
        | ast::Stmt::CreateUser(_)
        | ast::Stmt::CreateGroup(_)
        | ast::Stmt::AlterRole(_)
        | ast::Stmt::AlterUser(_)
        | ast::Stmt::AlterGroup(_)
        | ast::Stmt::DropRole(_)
        | ast::Stmt::DropUser(_)
        | ast::Stmt::DropGroup(_)
        | ast::Stmt::CreateDatabase(_)
        | ast::Stmt::AlterDatabase(_)
        | ast::Stmt::CreateTablespace(_)
        | ast::Stmt::AlterTablespace(_)
        | ast::Stmt::DropTablespace(_) => rules.push(SERVER_WIDE),
        ast::Stmt::Vacuum(vacuum) if is_full(vacuum) => rules.push(VACUUM_FULL),
        ast::Stmt::Cluster(_) => rules.push(CLUSTER),
        ast::Stmt::Lock(_) => rules.push(LOCK_TABLE),
        ast::Stmt::Truncate(_) => rules.push(TRUNCATE),
        ast::Stmt::Refresh(refresh) if refresh.concurrently_token().is_none() => rules.push(BLOCKING_REFRESH),
        ast::Stmt::Reindex(reindex) => match reindex.reindex_target() {
            Some(
                ast::ReindexTarget::ReindexTargetDatabase(_)
                | ast::ReindexTarget::ReindexTargetSchema(_)
                | ast::ReindexTarget::ReindexTargetSystem(_),
            ) if !has_token(reindex.syntax(), SyntaxKind::CONCURRENTLY_KW) => rules.push(BLOCKING_REINDEX),
            Some(_) | None => {}
        },
        ast::Stmt::AlterTable(alter) => rules.extend(alter.actions().filter_map(|action| rewrite(&action))),
        _ => {}
    }
    if is_drop(stmt) && has_token(stmt.syntax(), SyntaxKind::CASCADE_KW) {
        rules.push(DROP_CASCADE);
    }
    rules
}

/// What makes ALTER TABLE write the table anew, beside the defaults and types that squawk looks at.
fn rewrite(action: &ast::AlterTableAction) -> Option<Rule> {
    match action {
        ast::AlterTableAction::SetLogged(_)
        | ast::AlterTableAction::SetUnlogged(_)
        | ast::AlterTableAction::SetTablespace(_)
        | ast::AlterTableAction::SetAccessMethod(_) => Some(TABLE_REWRITE),
        ast::AlterTableAction::AddColumn(add) => {
            let serial = add.ty().is_some_and(|ty| {
                matches!(
                    bare_name(&node_text(ty.syntax())).as_str(),
                    "serial" | "serial2" | "serial4" | "serial8" | "smallserial" | "bigserial"
                )
            });
            serial.then_some(TABLE_REWRITE)
        }
        _ => None,
    }
}

fn is_full(vacuum: &ast::Vacuum) -> bool {
    let option = vacuum.vacuum_option_list().is_some_and(|list| {
        list.vacuum_options().any(|option| {
            let mut words = node_text(option.syntax()).to_ascii_lowercase();
            words.retain(|c| !c.is_whitespace());
            words.starts_with("full") && !matches!(words.as_str(), "fullfalse" | "fulloff" | "full0")
        })
    });
    vacuum.full_token().is_some() || option
}

fn is_drop(stmt: &ast::Stmt) -> bool {
    // ALTER TABLE ... DROP COLUMN ... CASCADE takes its dependents along just the same.
    matches!(stmt, ast::Stmt::AlterTable(_))
        || stmt.syntax().first_token().is_some_and(|t| t.kind() == SyntaxKind::DROP_KW)
}

/// UPDATE and DELETE without a WHERE, also inside WITH and EXPLAIN, but not inside the body of a function or rule, where
/// nothing runs yet.
fn whole_table_writes(stmt: &ast::Stmt, created: &BTreeSet<String>) -> Vec<Rule> {
    if matches!(stmt, ast::Stmt::CreateFunction(_) | ast::Stmt::CreateProcedure(_) | ast::Stmt::CreateRule(_)) {
        return Vec::new();
    }
    let is_new = |relation: Option<ast::RelationName>| {
        relation
            .and_then(|relation| relation.relation_name_ref())
            .is_some_and(|name| created.contains(&bare_name(&node_text(name.syntax()))))
    };
    let mut rules = Vec::new();
    for node in stmt.syntax().descendants() {
        if let Some(update) = ast::Update::cast(node.clone())
            && takes_every_row(update.where_clause_or_current_of().as_ref())
            && !is_new(update.relation_name())
        {
            rules.push(WHOLE_TABLE_UPDATE);
        }
        if let Some(delete) = ast::Delete::cast(node)
            && takes_every_row(delete.where_clause_or_current_of().as_ref())
            && !is_new(delete.relation_name())
        {
            rules.push(WHOLE_TABLE_DELETE);
        }
    }
    rules
}

fn takes_every_row(condition: Option<&ast::WhereClauseOrCurrentOf>) -> bool {
    match condition {
        None => true,
        Some(ast::WhereClauseOrCurrentOf::WhereClause(clause)) => {
            clause.expr().is_none_or(|expr| node_text(expr.syntax()).eq_ignore_ascii_case("true"))
        }
        Some(ast::WhereClauseOrCurrentOf::WhereCurrentOf(_)) => false,
    }
}
