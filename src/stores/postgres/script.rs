//! A script's text as statements, and the statements as steps: pure.
//!
//! The text is split by a real parser, so that a `;` in a string, a dollar-quoted body or `BEGIN ATOMIC` splits nothing.
//! Each statement is then sent to the server as it was written.
//!
//! Statements that PostgreSQL lets run inside a transaction are gathered into one [`Step::Together`]: all of them take
//! effect or none. The few that it refuses there (`CREATE INDEX CONCURRENTLY`, `VACUUM`, ...) are a [`Step::Apart`]
//! each. So a script without such statements is one step.

use std::ops::Range;

use squawk_syntax::{
    Parse, SourceFile, SyntaxKind, SyntaxNode,
    ast::{self, AstNode},
};

/// Deepest nesting of brackets that is handed to the parser, which recurses and takes quadratic time in this depth
/// (3,000 levels: 0.3 s).
const MAX_NESTING: usize = 500;

/// A script as the worker runs it.
#[derive(Clone, Debug)]
pub struct Script {
    /// The statements in order. Where the text could not be parsed, the whole of it as one.
    pub statements: Vec<Statement>,
    /// What the parser didn't understand.
    pub errors: Vec<SyntaxError>,
    /// What the parser made of it, for lint.
    pub(super) tree: Parse<SourceFile>,
}

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Place in the script, from 1.
    pub number: usize,
    /// Line of the script on which it begins, from 1.
    pub line: usize,
    /// Its text as written, without what precedes and follows it.
    pub text: String,
    /// How it may run.
    pub nature: Nature,
    /// It changes settings of the session, so a resumed script must run it again.
    pub sets_session: bool,
}

/// How a statement may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// In a transaction together with its neighbours.
    Plain,
    /// In a transaction of its own, since what follows needs it committed: a new enum value that a later statement uses.
    OwnTransaction,
    /// Outside any transaction.
    Apart(Apart),
}

/// Statements that PostgreSQL refuses inside a transaction. Names are SQL text as the script spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apart {
    /// `CREATE INDEX CONCURRENTLY`. Without a name it can't be found again, which lint refuses.
    BuildIndex {
        /// The index's name.
        index: Option<String>,
        /// The table, with its schema where the script gives one.
        table: String,
    },
    /// `DROP INDEX CONCURRENTLY`.
    DropIndex {
        /// The index's name, with its schema where the script gives one.
        index: String,
    },
    /// `REINDEX ... CONCURRENTLY` of an index.
    ReindexIndex {
        /// The index's name.
        index: String,
    },
    /// `REINDEX ... CONCURRENTLY` of a table.
    ReindexTable {
        /// The table's name.
        table: String,
    },
    /// `VACUUM`, which can be run again without harm.
    Vacuum,
    /// Any other, of which nobody can tell from outside whether it took effect.
    Other,
}

impl Apart {
    /// Whether the server waits in it without making the application wait: it takes no lock that reads or writes need.
    pub fn waits_without_harm(&self) -> bool {
        match self {
            Self::BuildIndex { .. }
            | Self::DropIndex { .. }
            | Self::ReindexIndex { .. }
            | Self::ReindexTable { .. }
            | Self::Vacuum => true,
            // DETACH PARTITION CONCURRENTLY takes ACCESS EXCLUSIVE on the partition in its second half.
            Self::Other => false,
        }
    }
}

/// What runs and takes effect as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// One transaction.
    Together(&'a [Statement]),
    /// One statement outside any transaction.
    Apart(&'a Statement, &'a Apart),
}

impl Step<'_> {
    /// The numbers of its statements.
    pub fn numbers(&self) -> Range<usize> {
        match self {
            Self::Together(statements) => {
                let first = statements.first().map_or(1, |statement| statement.number);
                first..first + statements.len()
            }
            Self::Apart(statement, _) => statement.number..statement.number + 1,
        }
    }
}

/// What the parser didn't understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line of the script, from 1.
    pub line: usize,
    /// What it says.
    pub message: String,
    /// It is inside the quoted body of a function, so the statements around it are sure.
    pub in_body: bool,
}

impl Script {
    /// Splits a script's text.
    pub fn parse(text: &str) -> Self {
        if let Some(offset) = too_deep(text) {
            let error = SyntaxError {
                line: line_at(text, offset),
                message: format!("brackets are nested more than {MAX_NESTING} deep"),
                in_body: false,
            };
            return Self { statements: whole(text), errors: vec![error], tree: SourceFile::parse("") };
        }
        let tree = SourceFile::parse(text);
        let root = tree.syntax_node();
        let errors: Vec<_> = tree
            .errors()
            .iter()
            .map(|error| {
                let start = usize::from(error.range().start());
                SyntaxError {
                    line: line_at(text, start),
                    message: error.message().to_owned(),
                    in_body: in_body(&root, start),
                }
            })
            .collect();
        let statements =
            if errors.iter().any(|error| !error.in_body) { whole(text) } else { split(text, &tree.tree()) };
        Self { statements, errors, tree }
    }

    /// Whether the statements are known, rather than only the text as a whole.
    pub fn is_understood(&self) -> bool {
        self.errors.iter().all(|error| error.in_body)
    }

    /// The steps that are left once the first `done` statements have taken effect.
    pub fn steps_after(&self, done: usize) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let mut plain = done..done;
        for (i, statement) in self.statements.iter().enumerate().skip(done) {
            if statement.nature == Nature::Plain {
                plain.end = i + 1;
                continue;
            }
            if !plain.is_empty() {
                steps.push(Step::Together(&self.statements[plain]));
            }
            plain = i + 1..i + 1;
            steps.push(match &statement.nature {
                Nature::Apart(apart) => Step::Apart(statement, apart),
                Nature::OwnTransaction | Nature::Plain => Step::Together(&self.statements[i..=i]),
            });
        }
        if !plain.is_empty() {
            steps.push(Step::Together(&self.statements[plain]));
        }
        steps
    }

    /// Text of the first `count` statements, by which a changed beginning is noticed.
    pub fn beginning(&self, count: usize) -> String {
        let texts: Vec<_> = self.statements.iter().take(count).map(|statement| statement.text.as_str()).collect();
        texts.join("\n")
    }
}

fn split(text: &str, file: &SourceFile) -> Vec<Statement> {
    let all: Vec<ast::Stmt> = file.stmts().filter(|stmt| !matches!(stmt, ast::Stmt::EmptyStmt(_))).collect();
    let texts: Vec<String> = all.iter().map(|stmt| node_text(stmt.syntax())).collect();
    all.iter()
        .enumerate()
        .map(|(i, stmt)| Statement {
            number: i + 1,
            line: line_at(text, stmt.syntax().text_range().start().into()),
            text: texts[i].clone(),
            nature: nature(stmt, &texts[i + 1..]),
            sets_session: sets_session(stmt),
        })
        .collect()
}

fn whole(text: &str) -> Vec<Statement> {
    let text = text.trim();
    vec![Statement { number: 1, line: 1, text: text.to_owned(), nature: Nature::Plain, sets_session: false }]
}

fn nature(stmt: &ast::Stmt, later: &[String]) -> Nature {
    let apart = match stmt {
        ast::Stmt::CreateIndex(create) if create.concurrently_token().is_some() => Apart::BuildIndex {
            index: create.index().map(|index| node_text(index.syntax())),
            table: create
                .table_relation_name()
                .and_then(|relation| relation.table_name_ref())
                .map(|table| node_text(table.syntax()))
                .unwrap_or_default(),
        },
        ast::Stmt::DropIndex(drop) if drop.concurrently_token().is_some() => Apart::DropIndex {
            index: drop.index_refs().next().map(|index| node_text(index.syntax())).unwrap_or_default(),
        },
        ast::Stmt::Reindex(reindex) => return reindex_nature(reindex),
        ast::Stmt::Vacuum(_) => Apart::Vacuum,
        ast::Stmt::AlterType(alter) => return enum_value_nature(alter, later),
        ast::Stmt::AlterTable(alter) if detaches_concurrently(alter) => Apart::Other,
        ast::Stmt::Cluster(cluster) if cluster.table_name_ref().is_none() && cluster.cluster_legacy().is_none() => {
            Apart::Other
        }
        ast::Stmt::AlterDatabase(alter)
            if matches!(alter.action(), Some(ast::AlterDatabaseAction::SetTablespace(_))) =>
        {
            Apart::Other
        }
        ast::Stmt::CreateSubscription(_)
        | ast::Stmt::AlterSubscription(_)
        | ast::Stmt::DropSubscription(_)
        | ast::Stmt::CreateDatabase(_)
        | ast::Stmt::DropDatabase(_)
        | ast::Stmt::CreateTablespace(_)
        | ast::Stmt::DropTablespace(_)
        | ast::Stmt::AlterSystem(_) => Apart::Other,
        _ => return Nature::Plain,
    };
    Nature::Apart(apart)
}

fn reindex_nature(reindex: &ast::Reindex) -> Nature {
    let concurrently = has_token(reindex.syntax(), SyntaxKind::CONCURRENTLY_KW);
    match reindex.reindex_target() {
        Some(ast::ReindexTarget::ReindexTargetIndex(target)) if concurrently => Nature::Apart(Apart::ReindexIndex {
            index: target.index_ref().map(|index| node_text(index.syntax())).unwrap_or_default(),
        }),
        Some(ast::ReindexTarget::ReindexTargetTable(target)) if concurrently => Nature::Apart(Apart::ReindexTable {
            table: target.table_name_ref().map(|table| node_text(table.syntax())).unwrap_or_default(),
        }),
        Some(ast::ReindexTarget::ReindexTargetIndex(_) | ast::ReindexTarget::ReindexTargetTable(_)) | None => {
            Nature::Plain
        }
        Some(
            ast::ReindexTarget::ReindexTargetDatabase(_)
            | ast::ReindexTarget::ReindexTargetSchema(_)
            | ast::ReindexTarget::ReindexTargetSystem(_),
        ) => Nature::Apart(Apart::Other),
    }
}

/// A new enum value can't be used before its transaction has committed. Looking for its label anywhere in what follows
/// finds every use, and a few that are none, which only costs a transaction.
fn enum_value_nature(alter: &ast::AlterType, later: &[String]) -> Nature {
    let Some(ast::AlterTypeAction::AddValue(add)) = alter.action() else { return Nature::Plain };
    let literal = add.literal().map(|literal| node_text(literal.syntax())).unwrap_or_default();
    let label = literal.trim_matches('\'');
    if later.iter().any(|text| text.contains(label)) { Nature::OwnTransaction } else { Nature::Plain }
}

fn detaches_concurrently(alter: &ast::AlterTable) -> bool {
    alter.actions().any(|action| {
        matches!(&action, ast::AlterTableAction::DetachPartition(detach)
            if matches!(detach.detach_partition_option(), Some(ast::DetachPartitionOption::DetachConcurrently(_))))
    })
}

fn sets_session(stmt: &ast::Stmt) -> bool {
    match stmt {
        ast::Stmt::Set(_)
        | ast::Stmt::Reset(_)
        | ast::Stmt::SetRole(_)
        | ast::Stmt::ResetRole(_)
        | ast::Stmt::SetSessionAuth(_)
        | ast::Stmt::ResetSessionAuth(_) => true,
        // What pg_dump writes: SELECT pg_catalog.set_config('search_path', '', false);
        ast::Stmt::Select(select) => node_text(select.syntax()).to_ascii_lowercase().contains("set_config"),
        _ => false,
    }
}

/// Whether the position is strictly inside a quoted string: the parser also reads the bodies of functions.
fn in_body(root: &SyntaxNode, position: usize) -> bool {
    let Ok(position) = u32::try_from(position) else { return false };
    root.token_at_offset(position.into()).any(|token| {
        matches!(token.kind(), SyntaxKind::STRING | SyntaxKind::DOLLAR_QUOTED_STRING)
            && token.text_range().start() < position.into()
            && token.text_range().end() > position.into()
    })
}

/// Where brackets nest too deeply, if they do. Brackets in strings count too: the limit is far beyond any real script.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.bytes().position(|byte| {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_NESTING
    })
}

pub(super) fn has_token(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    node.descendants_with_tokens().any(|element| element.kind() == kind)
}

pub(super) fn node_text(node: &SyntaxNode) -> String {
    node.text().to_string().trim().to_owned()
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
