//! squawk's rules: which of them count, how much, and what to do instead.

use std::collections::BTreeSet;

use squawk_linter::{Linter, Rule};
use squawk_syntax::ast::AstNode;

use super::{Hit, Subject, Weight, table_of};

/// Runs squawk over one script.
pub(super) fn look(subject: &Subject<'_>, created: &BTreeSet<String>, hits: &mut Vec<Hit>) {
    let mut linter = Linter::with_rules(OPT_IN, &[]);
    linter.rules.retain(|rule| weigh(*rule).0 != Weight::Off);
    // A table created earlier in the script is then known to be new, and VALIDATE beside NOT VALID is noticed.
    linter.settings.assume_in_transaction = true;
    let statements: Vec<_> = subject.script.tree.tree().stmts().collect();
    for violation in linter.lint(&subject.script.tree, subject.text) {
        let (weight, advice) = weigh(violation.code);
        let at = usize::from(violation.text_range.start());
        let table = statements
            .iter()
            .find(|stmt| stmt.syntax().text_range().contains_range(violation.text_range))
            .and_then(table_of);
        if weight == Weight::Blocks && table.is_some_and(|table| created.contains(&table)) {
            continue;
        }
        hits.push(Hit { rule: violation.code.to_string(), weight, at, message: violation.message, advice });
    }
}

/// Rules that squawk runs only where they are asked for by name.
const OPT_IN: &[Rule] = &[Rule::BanDropTrigger, Rule::BanDisableTrigger, Rule::BanAlterGeneratedExpression];

#[expect(clippy::match_same_arms, reason = "rules are off for different reasons")]
#[expect(clippy::too_many_lines, reason = "a table")]
/// How much a rule weighs, and what to do instead. Every rule is listed, so that a newer squawk's rules are weighed too.
fn weigh(rule: Rule) -> (Weight, &'static str) {
    match rule {
        // These make reads or writes wait for as long as a scan, a rewrite or an index build takes.
        Rule::RequireConcurrentIndexCreation => (
            Weight::Blocks,
            "Write CREATE INDEX CONCURRENTLY; the worker runs it outside a transaction and rebuilds it if it fails.",
        ),
        Rule::RequireConcurrentReindex => (Weight::Blocks, "Write REINDEX ... CONCURRENTLY."),
        Rule::RequireConcurrentPartitionDetach => (Weight::Blocks, "Write DETACH PARTITION ... CONCURRENTLY."),
        Rule::ConstraintMissingNotValid => (
            Weight::Blocks,
            "Add the constraint NOT VALID in one script and run VALIDATE CONSTRAINT in a script after it.",
        ),
        Rule::AddingForeignKeyConstraint => (
            Weight::Blocks,
            "Add the column first; then the foreign key NOT VALID; then VALIDATE CONSTRAINT in a script of its own.",
        ),
        Rule::AddingFieldWithDefault => (
            Weight::Blocks,
            "Add the column without a default, set the default in a second statement, and fill old rows in batches.",
        ),
        Rule::ChangingColumnType => (
            Weight::Blocks,
            "Add a column of the new type, keep both in step, move readers over, and drop the old one last. If the \
             change needs no rewrite (varchar to text, a longer varchar), accept the rule.",
        ),
        Rule::AddingNotNullableField => (
            Weight::Blocks,
            "Add CHECK (column IS NOT NULL) NOT VALID, validate it in a script of its own, then SET NOT NULL, which \
             then needs no scan.",
        ),
        Rule::AddingRequiredField => {
            (Weight::Blocks, "Add the column with a constant default, or as nullable until every writer sets it.")
        }
        Rule::AddingSerialPrimaryKeyField => (
            Weight::Blocks,
            "Build a unique index CONCURRENTLY, then ADD CONSTRAINT ... PRIMARY KEY USING INDEX in a script after it.",
        ),
        Rule::DisallowedUniqueConstraint => (
            Weight::Blocks,
            "Build a unique index CONCURRENTLY, then ADD CONSTRAINT ... UNIQUE USING INDEX in a script after it.",
        ),
        Rule::BanAlterDomainWithAddConstraint => {
            (Weight::Blocks, "Use a CHECK constraint on the tables: a domain's constraint scans all of them at once.")
        }
        // These break the side that is still on the old form, or destroy what it would need.
        Rule::BanDropColumn | Rule::BanDropTable | Rule::BanDropSchema => (
            Weight::Breaks,
            "Drop it in a phase with `pointOfNoReturn: true`, after the bake, when nothing reads it any more.",
        ),
        Rule::BanTruncateCascade => {
            (Weight::Breaks, "Name each table, in a phase with `pointOfNoReturn: true`: CASCADE empties tables unseen.")
        }
        Rule::RenamingColumn | Rule::RenamingTable => (
            Weight::Breaks,
            "Add the new name beside the old one (a column kept in step, or a view), and drop the old one after the bake.",
        ),
        Rule::BanSetSchema => (Weight::Breaks, "Leave a view under the old name until the bake is over."),
        // These may surprise clients.
        Rule::BanDropNotNull => (Weight::Changes, "Make sure that every reader copes with NULL."),
        Rule::BanDropView
        | Rule::BanDropFunction
        | Rule::BanDropType
        | Rule::BanDropSequence
        | Rule::BanDropDomain
        | Rule::BanDropExtension
        | Rule::RenamingObject => (Weight::Changes, "Make sure that neither side uses it any more."),
        Rule::BanDropDefault
        | Rule::BanDropGeneratedExpression
        | Rule::BanAlterGeneratedExpression
        | Rule::BanAlterIdentity => (Weight::Changes, "Make sure that every writer sets the column by itself."),
        Rule::BanDropConstraint => (Weight::Changes, "Make sure that no side relies on what the constraint promised."),
        Rule::BanDropTrigger | Rule::BanDisableTrigger => {
            (Weight::Changes, "Make sure that no side relies on what the trigger did.")
        }
        Rule::BanCreateDomainWithConstraint => {
            (Weight::Changes, "Prefer a CHECK constraint on the table, which can be added and removed on line.")
        }
        Rule::RequireConcurrentIndexDeletion => {
            (Weight::Notes, "Write DROP INDEX CONCURRENTLY, so that nobody waits for the lock.")
        }
        Rule::IdentifierTooLong => (Weight::Notes, "Shorten the name: PostgreSQL cuts it off without an error."),
        // `own` says the same in terms of this tool, or can't let it be accepted.
        Rule::BanDropDatabase
        | Rule::PreferRepack
        | Rule::TransactionNesting
        | Rule::BanUncommittedTransaction
        | Rule::BanAlterSystemOptions
        | Rule::BanAlterRoleOptions
        | Rule::BanAlterDatabaseOptions => OFF,
        // The worker sets the timeouts, makes the transactions, and runs concurrent builds outside of them.
        Rule::RequireTimeoutSettings
        | Rule::RequireLockTimeout
        | Rule::RequireStatementTimeout
        | Rule::PreferRobustStmts
        | Rule::BanConcurrentIndexCreationInTransaction => OFF,
        // Taste, or what every additive change does.
        Rule::PreferBigintOverInt
        | Rule::PreferBigintOverSmallint
        | Rule::PreferIdentity
        | Rule::PreferTextField
        | Rule::PreferTimestampTz
        | Rule::BanCharField
        | Rule::UnusedIgnore
        | Rule::RequireEnumValueOrdering
        | Rule::RequireTableSchema
        | Rule::BanDuplicateColumnAssignments
        | Rule::BanDropIndex
        | Rule::BanSetDefault
        | Rule::BanReplicaIdentity
        | Rule::BanDropPolicy
        | Rule::BanRevoke
        | Rule::BanReplaceViewFunction
        | Rule::BanAlterPolicyCondition
        | Rule::BanAlterPolicyRoles
        | Rule::BanCreatePolicy
        | Rule::BanAlterFunctionOptions
        | Rule::BanAlterViewOptions
        | Rule::BanAlterRowLevelSecurity
        | Rule::BanNewWriteRestriction
        | Rule::BanAddEnumValue
        | Rule::BanAddCompositeAttribute
        | Rule::BanAddColumn
        | Rule::BanDetachInheritance
        | Rule::BanAlterSequenceValues
        | Rule::BanAlterExtension => OFF,
    }
}

const OFF: (Weight, &str) = (Weight::Off, "");
