//! What a script touches, by name: pure. Enough to ask a store about it beforehand; not a dependency analysis.

use std::collections::BTreeSet;

use squawk_syntax::ast::{self, AstNode};

use super::script::{Apart, Nature, Script, node_text};

/// Names as the script spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Relations that it changes, for which it has to be their owner.
    pub changed: BTreeSet<String>,
    /// Schemas in which it makes something; `None` is the one that unqualified names go to.
    pub made_in: BTreeSet<Option<String>>,
    /// Indexes that it builds concurrently, each with its table.
    pub built: Vec<(String, String)>,
}

impl Touched {
    /// Adds what one script touches.
    pub fn add(&mut self, script: &Script) {
        for stmt in script.tree.tree().stmts() {
            self.add_statement(&stmt);
        }
        let built = script.statements.iter().filter_map(|statement| match &statement.nature {
            Nature::Apart(Apart::BuildIndex { index: Some(index), table }) => Some((index.clone(), table.clone())),
            Nature::Apart(_) | Nature::Plain | Nature::OwnTransaction => None,
        });
        self.built.extend(built);
    }

    fn add_statement(&mut self, stmt: &ast::Stmt) {
        let of_relation = |relation: Option<ast::TableRelationName>| {
            relation.and_then(|relation| relation.table_name_ref()).map(|name| node_text(name.syntax()))
        };
        match stmt {
            ast::Stmt::AlterTable(alter) => self.changed.extend(of_relation(alter.table_relation_name())),
            ast::Stmt::CreateIndex(create) => self.changed.extend(of_relation(create.table_relation_name())),
            ast::Stmt::DropTable(drop) => {
                self.changed.extend(drop.table_name_refs().map(|name| node_text(name.syntax())));
            }
            ast::Stmt::CreateTable(create) if create.persistence().is_none() => {
                self.made_in.extend(create.table_name().map(|name| schema_of(&node_text(name.syntax()))));
            }
            ast::Stmt::CreateTableAs(create) if create.persistence().is_none() => {
                self.made_in.extend(create.table_name().map(|name| schema_of(&node_text(name.syntax()))));
            }
            _ => {}
        }
    }
}

/// The schema in a qualified name, as spelled.
fn schema_of(name: &str) -> Option<String> {
    let mut quoted = false;
    let dot = name.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b'.' && !quoted
    })?;
    Some(name[..dot].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_asked_for_what_it_changes_makes_and_builds() {
        let mut touched = Touched::default();
        touched.add(&Script::parse(
            "ALTER TABLE ONLY shop.items ADD COLUMN sku text; DROP TABLE a, \"B.b\"; CREATE TABLE shop.parts (); \
             CREATE TABLE plain (); CREATE TEMP TABLE t (); CREATE TABLE \"x.y\".z AS SELECT 1; \
             CREATE INDEX CONCURRENTLY \"I\" ON shop.items (sku); SELECT 1 FROM other;",
        ));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(touched.changed, names(&["\"B.b\"", "a", "shop.items"]));
        assert_eq!(touched.made_in, BTreeSet::from([None, Some("\"x.y\"".into()), Some("shop".into())]));
        assert_eq!(touched.built, [("\"I\"".to_owned(), "shop.items".to_owned())]);
    }
}
