//! What a backfill computes, as the server understands it.
//!
//! The user's expressions are parsed by the server and by nobody else: each becomes a generated column of an empty
//! scratch table in a transaction that is rolled back. That refuses what isn't immutable or looks beyond the row, tells
//! which columns an expression reads, and gives back its text with every name resolved, so that it means the same in a
//! trigger, under whatever `search_path` a client has. It doesn't show what an expression does with a particular row.

use super::{
    ident::{Ident, QualifiedName},
    keys::{self, Key},
    session::{QueryError, Session},
};

/// Makes deparsed text name everything outside of pg_catalog by its schema.
const NAME_EVERYTHING: &str = "SET LOCAL search_path TO pg_catalog";

/// What the user wrote.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The table, as SQL names it.
    pub table: &'a str,
    /// Column and expression of each assignment.
    pub set: &'a [(String, String)],
    /// The condition, if any.
    pub filter: Option<&'a str>,
}

/// A table, its key, and what its rows are to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivation {
    /// The table.
    pub table: Table,
    /// How it is walked through.
    pub key: Key,
    /// What each column is to hold.
    pub assignments: Vec<Assignment>,
    /// Which rows need it, resolved; `true` where the user said nothing.
    pub filter: String,
    /// Columns that the expressions read.
    pub sources: Vec<Column>,
    /// Further columns that the filter reads, those of `set` apart.
    pub conditions: Vec<Column>,
    /// The filter reads a column of `set`, so it tells a filled row from one that isn't.
    pub filter_is_marker: bool,
    /// Functions outside of pg_catalog that are called.
    pub functions: Vec<String>,
}

/// A table as the server knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub name: QualifiedName,
    /// It has partitions, so a row's place isn't told by its `ctid` alone.
    pub is_partitioned: bool,
    /// Whether the role owns it, or may act as its owner.
    pub is_owner: bool,
    /// Its owner.
    pub owner: String,
    /// Rows, as of the last ANALYZE; 0 if there was none.
    pub rows_estimated: f64,
    /// Size without indexes and TOAST.
    pub bytes: i64,
}

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Ident,
    /// Its number, which outlives a renaming and isn't used again.
    pub number: i16,
    /// Its type with length.
    pub sql_type: String,
    /// Plain `IS DISTINCT FROM` tells every difference.
    pub same_if_equal: bool,
}

/// What one column is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The column.
    pub column: Column,
    /// The expression, resolved.
    pub expression: String,
    /// What the column holds where nobody has written it: its default, or NULL with its type.
    pub blank: String,
}

impl Column {
    /// A condition that is true where two values for this column aren't the same, NULL being a value. By their image
    /// where the type calls different things equal, such as 1.0 and 1.00, or has no equality, as json.
    pub fn differs(&self, one: &str, other: &str) -> String {
        if self.same_if_equal {
            format!("{one} IS DISTINCT FROM {other}")
        } else {
            let Self { sql_type, .. } = self;
            // By its function's name: between two ROW(...) the operator would be looked for column by column.
            format!("pg_catalog.record_image_ne(ROW(CAST({one} AS {sql_type})), ROW(CAST({other} AS {sql_type})))")
        }
    }
}

/// Why a wish can't be fulfilled as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Name of the rule.
    pub rule: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do instead, in a sentence.
    pub advice: String,
}

fn objection(rule: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Objection {
    Objection { rule, message: message.into(), advice: advice.into() }
}

struct Attribute {
    column: Column,
    is_generated: bool,
    is_always_identity: bool,
    preset: Option<String>,
    may_write: bool,
}

struct Understood {
    text: String,
    uses: Vec<i32>,
    functions: Vec<String>,
}

/// Asks the server what a wish means. Leaves nothing behind.
pub async fn understand(session: &Session, wish: Wish<'_>) -> Result<Result<Derivation, Vec<Objection>>, QueryError> {
    let table = match find_table(session, wish.table).await? {
        Ok(table) => table,
        Err(why) => return Ok(Err(vec![why])),
    };
    let mut objections = Vec::new();
    let key = match keys::find(session, table.oid).await? {
        Ok(key) => Some(key),
        Err(unusable) => {
            let detail = if unusable.is_empty() { String::new() } else { format!(" ({})", unusable.join("; ")) };
            objections.push(objection(
                "no-key",
                format!("{} has no unique key without NULLs by which it could be walked through{detail}.", table.name),
                "Add a primary key, or a unique index over NOT NULL columns (CREATE UNIQUE INDEX CONCURRENTLY).",
            ));
            None
        }
    };
    session.begin().await?;
    let understood = understand_columns(session, wish, &table, key.as_ref(), &mut objections).await;
    // Whatever came of it, nothing of it stays. A lost session has rolled back by itself.
    match session.roll_back().await {
        Ok(()) | Err(QueryError::Lost { .. }) => {}
        Err(error) => return Err(error),
    }
    let Some((assignments, filter, sources, conditions, filter_is_marker, functions)) = understood? else {
        return Ok(Err(objections));
    };
    match key {
        Some(key) if objections.is_empty() => {
            Ok(Ok(Derivation { table, key, assignments, filter, sources, conditions, filter_is_marker, functions }))
        }
        Some(_) | None => Ok(Err(objections)),
    }
}

async fn find_table(session: &Session, name: &str) -> Result<Result<Table, Objection>, QueryError> {
    let rows = match session.rows(include_str!("sql/backfill_table.sql"), &[&name]).await {
        // 42602: no name at all; 0A000: a name with another database in front.
        Err(QueryError::Refused(refusal)) if matches!(refusal.sqlstate.as_str(), "42602" | "0A000" | "42601") => {
            let message = format!("{name:?} is no name of a table: {}.", refusal.message);
            return Ok(Err(objection("no-table", message, "Write it as in SQL, with its schema: crm.customers.")));
        }
        other => other?,
    };
    let Some(row) = rows.first() else {
        let message = format!("There is no table {name}, or the role may not see its schema.");
        return Ok(Err(objection(
            "no-table",
            message,
            "Write its schema, too, if it isn't in the role's search_path.",
        )));
    };
    let flag = |column: &str| row.get::<_, bool>(column);
    let kind: String = row.get("kind");
    let table = Table {
        oid: row.get("oid"),
        name: QualifiedName { schema: row.get("schema"), name: row.get("name") },
        is_partitioned: kind == "p",
        is_owner: flag("is_owner"),
        owner: row.get("owner"),
        rows_estimated: row.get("rows_estimated"),
        bytes: row.get("bytes"),
    };
    let no_table = |what: &str, advice: &str| objection("not-a-table", format!("{} {what}.", table.name), advice);
    Ok(Err(if !matches!(kind.as_str(), "r" | "p") || flag("is_temporary") {
        no_table("isn't a table with rows of its own", "Name the table that holds the rows.")
    } else if flag("has_foreign_part") {
        no_table("has a partition on another server", "Backfill the partitions that are tables one by one.")
    } else if kind == "r" && flag("has_children") {
        no_table("has tables that inherit from it, over which no key is unique", "Backfill each of them by itself.")
    } else if !flag("may_read") || !flag("may_write") {
        let message = format!("The role may not read and update {}.", table.name);
        objection("missing-right", message, "Grant it SELECT and UPDATE on the table.")
    } else if flag("hides_rows") {
        let message = format!("Row security hides rows of {} from the role.", table.name);
        objection("row-security", message, "Use a role with BYPASSRLS: a row that isn't seen would be left out.")
    } else {
        return Ok(Ok(table));
    }))
}

type Parts = (Vec<Assignment>, String, Vec<Column>, Vec<Column>, bool, Vec<String>);

async fn understand_columns(
    session: &Session,
    wish: Wish<'_>,
    table: &Table,
    key: Option<&Key>,
    objections: &mut Vec<Objection>,
) -> Result<Option<Parts>, QueryError> {
    let scratch = match make_scratch(session, table).await? {
        Ok(scratch) => scratch,
        Err(why) => {
            objections.push(why);
            return Ok(None);
        }
    };
    session.run("SAVEPOINT parsed").await?;
    session.run(NAME_EVERYTHING).await?;
    let attributes = read_attributes(session, table.oid).await?;
    let scratch_numbers = read_attributes(session, scratch).await?;
    session.run("ROLLBACK TO SAVEPOINT parsed").await?;
    let by_number = |number: i32| {
        let name = scratch_numbers.iter().find(|of| i32::from(of.column.number) == number).map(|of| &of.column.name);
        attributes.iter().find(|attribute| Some(&attribute.column.name) == name)
    };
    let set_names: Vec<&str> = wish.set.iter().map(|(name, _)| name.as_str()).collect();
    let is_set = |column: &Column| set_names.contains(&column.name.0.as_str());
    let (mut assignments, mut sources, mut functions) = (Vec::new(), Vec::<Column>::new(), Vec::new());
    for (name, expression) in wish.set {
        let Some(target) = attributes.iter().find(|attribute| attribute.column.name.0 == *name) else {
            objections.push(no_column(table, name, &attributes));
            continue;
        };
        objections.extend(target_objection(table, target, key));
        let column_type = &target.column.sql_type;
        let understood = match parse(session, table, &format!("set.{name}"), expression, column_type).await? {
            Ok(understood) => understood,
            Err(why) => {
                objections.push(why);
                continue;
            }
        };
        for number in &understood.uses {
            match by_number(*number) {
                Some(read) if read.is_generated => objections.push(objection(
                    "reads-generated",
                    format!("The expression for {name} reads {}, which the server computes last.", read.column.name),
                    "Write what that column is generated from instead.",
                )),
                Some(read) if is_set(&read.column) => objections.push(objection(
                    "reads-what-it-sets",
                    format!(
                        "The expression for {name} reads {}, which is set, too: done twice it would be another value, and \
                         the one before is lost.",
                        read.column.name
                    ),
                    "Compute it from columns that stay as they are, into a column of its own.",
                )),
                Some(read) if !sources.contains(&read.column) => sources.push(read.column.clone()),
                Some(_) => {}
                None => objections.push(whole_row(&format!("The expression for {name}"))),
            }
        }
        functions.extend(understood.functions);
        let blank = target.preset.clone().unwrap_or_else(|| format!("CAST(NULL AS {column_type})"));
        assignments.push(Assignment { column: target.column.clone(), expression: understood.text, blank });
    }
    let (mut conditions, mut is_marker, mut filter) = (Vec::new(), false, "true".to_owned());
    if let Some(text) = wish.filter {
        match parse(session, table, "where", text, "boolean").await? {
            Err(why) => objections.push(why),
            Ok(understood) => {
                for number in &understood.uses {
                    match by_number(*number) {
                        Some(read) if is_set(&read.column) => is_marker = true,
                        Some(read) if read.is_generated => objections.push(objection(
                            "reads-generated",
                            format!("`where` reads {}, which the server computes last.", read.column.name),
                            "Write what that column is generated from instead.",
                        )),
                        Some(read) if sources.contains(&read.column) => {}
                        Some(read) => conditions.push(read.column.clone()),
                        None => objections.push(whole_row("`where`")),
                    }
                }
                functions.extend(understood.functions);
                filter = understood.text;
            }
        }
    }
    functions.sort();
    functions.dedup();
    Ok(Some((assignments, filter, sources, conditions, is_marker, functions)))
}

fn whole_row(what: &str) -> Objection {
    objection("whole-row", format!("{what} reads the whole row or a system column."), "Name the columns that it needs.")
}

fn no_column(table: &Table, name: &str, attributes: &[Attribute]) -> Objection {
    let alike = attributes.iter().find(|attribute| attribute.column.name.0.eq_ignore_ascii_case(name));
    let advice = match alike {
        Some(alike) => format!("Write {}, as the server has it.", alike.column.name.0),
        None => "Add it in a `sql` phase before this one.".to_owned(),
    };
    objection("no-column", format!("{} has no column {name}.", table.name), advice)
}

fn target_objection(table: &Table, target: &Attribute, key: Option<&Key>) -> Option<Objection> {
    let name = &target.column.name;
    if target.is_generated || target.is_always_identity {
        let message = format!("{name} of {} is generated by the server.", table.name);
        return Some(objection("generated-column", message, "Leave it out."));
    }
    if key.is_some_and(|key| key.has(&name.0)) {
        let message = format!("{name} is part of the key by which {} is walked through.", table.name);
        return Some(objection("key-column", message, "Set a column that isn't part of the key."));
    }
    (!target.may_write).then(|| {
        let message = format!("The role may not update {name} of {}.", table.name);
        objection("missing-right", message, "Grant it UPDATE on the column.")
    })
}

async fn read_attributes(session: &Session, table: u32) -> Result<Vec<Attribute>, QueryError> {
    let rows = session.rows(include_str!("sql/backfill_columns.sql"), &[&table]).await?;
    let attribute = |row: &tokio_postgres::Row| Attribute {
        column: Column {
            name: Ident(row.get("name")),
            number: row.get("attnum"),
            sql_type: row.get("sql_type"),
            same_if_equal: row.get("same_if_equal"),
        },
        is_generated: row.get("is_generated"),
        is_always_identity: row.get("is_always_identity"),
        preset: row.get("preset"),
        may_write: row.get("may_write"),
    };
    Ok(rows.iter().map(attribute).collect())
}

/// Makes an empty temporary table of the same name and columns; its generated columns become plain ones.
async fn make_scratch(session: &Session, table: &Table) -> Result<Result<u32, Objection>, QueryError> {
    let name = Ident(table.name.name.clone());
    session.run("SAVEPOINT before").await?;
    let sql = format!("CREATE TEMPORARY TABLE {name} (LIKE {}) ON COMMIT DROP", table.name);
    match session.run(&sql).await {
        Ok(()) => {}
        Err(QueryError::Refused(refusal)) if refusal.sqlstate == "42501" => {
            let message = format!("The role may not make temporary tables: {}.", refusal.message);
            return Ok(Err(objection("missing-right", message, "Grant it TEMPORARY on the database.")));
        }
        Err(error) => return Err(error),
    }
    let oid = session.value("SELECT pg_catalog.to_regclass($1)::oid", &[&format!("pg_temp.{name}")]).await?;
    Ok(Ok(oid))
}

/// Has the server parse one expression, as it would be assigned to a column of this type.
async fn parse(
    session: &Session,
    table: &Table,
    place: &str,
    text: &str,
    sql_type: &str,
) -> Result<Result<Understood, Objection>, QueryError> {
    if let Some(what) = leaves_its_parentheses(text) {
        let message = format!("{place} is no single expression: {what}.");
        return Ok(Err(objection("bad-expression", message, "Write one SQL expression.")));
    }
    let scratch = format!("pg_temp.{}", Ident(table.name.name.clone()));
    // On a line of its own, so that a comment at its end ends there.
    let sql =
        format!("ALTER TABLE {scratch} ADD COLUMN \"~parsed\" {sql_type} GENERATED ALWAYS AS (\n{text}\n) STORED");
    match session.run(&sql).await {
        Ok(()) => {}
        Err(QueryError::Refused(refusal)) => {
            session.run("ROLLBACK TO SAVEPOINT parsed").await?;
            return Ok(Err(refused(place, &refusal)));
        }
        Err(error) => return Err(error),
    }
    let oid: u32 = session.value("SELECT pg_catalog.to_regclass($1)::oid", &[&scratch]).await?;
    session.run(NAME_EVERYTHING).await?;
    let rows = session.rows(include_str!("sql/backfill_expression.sql"), &[&oid, &"~parsed"]).await?;
    session.run("ROLLBACK TO SAVEPOINT parsed").await?;
    let row = rows.first().ok_or(QueryError::Unexpected { why: "a column just added isn't there".to_owned() })?;
    Ok(Ok(Understood { text: row.get("text"), uses: row.get("uses"), functions: row.get("functions") }))
}

/// A query that evaluates every expression on the first `$1` rows to which the filter applies.
pub fn trial(of: &Derivation) -> String {
    let values: Vec<_> = of
        .assignments
        .iter()
        .map(|set| format!("count(CAST(({}) AS {}))", set.expression, set.column.sql_type))
        .collect();
    let (table, filter) = (&of.table.name, &of.filter);
    format!(
        "SELECT {} FROM (SELECT * FROM {table} ORDER BY {} LIMIT $1) AS first_rows WHERE {filter}",
        values.join(", "),
        of.key.columns(None)
    )
}

fn refused(place: &str, refusal: &super::session::Refusal) -> Objection {
    // 42P17: invalid_object_definition, with which the server refuses what isn't immutable.
    let advice = match refusal.sqlstate.as_str() {
        "42P17" => {
            "Use functions and casts that depend on nothing but their arguments: not on the time, the session's time \
             zone or language, or other rows."
        }
        "0A000" | "42803" | "42P20" | "42P10" => {
            "Compute it from the row alone: no subqueries, aggregates or sets. What needs other rows is a `job`."
        }
        _ => "Mend the expression.",
    };
    objection("bad-expression", format!("{place}: {}.", refusal.message.trim_end_matches('.')), advice)
}

/// Says how text, put in parentheses, would reach out of them. The server can't tell: what it is given would be whole.
fn leaves_its_parentheses(text: &str) -> Option<&'static str> {
    use squawk_syntax::SyntaxKind;
    let parsed = squawk_syntax::SourceFile::parse(&format!("SELECT (\n{text}\n)"));
    let tree = parsed.tree();
    let mut depth = 0_i32;
    let mut closed = false;
    for element in squawk_syntax::ast::AstNode::syntax(&tree).descendants_with_tokens() {
        let Some(token) = element.into_token() else { continue };
        if token.kind().is_trivia() {
            continue;
        }
        if closed {
            return Some("it closes a parenthesis that it didn't open");
        }
        match token.kind() {
            SyntaxKind::L_PAREN => depth += 1,
            SyntaxKind::R_PAREN => {
                depth -= 1;
                closed = depth == 0;
            }
            SyntaxKind::SEMICOLON => return Some("it has a semicolon"),
            _ => {}
        }
    }
    (!closed).then_some("a parenthesis, a quote or a comment in it stays open")
}

#[cfg(test)]
mod tests {
    use super::leaves_its_parentheses;

    #[test]
    fn an_expression_stays_inside_its_parentheses() {
        for text in ["a", "f(a, (b))", "')'", "\"(\" || $$)$$", "a -- )", "a /* ( */", "E'\\')'"] {
            assert_eq!(leaves_its_parentheses(text), None, "{text}");
        }
    }

    #[test]
    fn text_that_reaches_out_of_its_parentheses_is_noticed() {
        for text in [
            "1) STORED, ADD COLUMN b int GENERATED ALWAYS AS (2",
            "1); DROP TABLE a; SELECT (1",
            "(",
            ")",
            "'a",
            "/* a",
        ] {
            assert!(leaves_its_parentheses(text).is_some(), "{text}");
        }
    }
}
