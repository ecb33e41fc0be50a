//! The CRD's CEL rules, evaluated without an API server.
//!
//! Rules about changes (`oldSelf`) speak of what is in the cluster and are left out; one that can tell creation from change
//! is evaluated as for a new object. What Kubernetes' CEL has beyond the standard and the rules here need is added: lists
//! with an index beside the item, `duration` (as milliseconds: durations are only ever compared), and texts' functions.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Env, ExecutionError, Program, Value as Cel,
    common::{
        ast::{CallExpr, Expr, IdedExpr, ListExpr, SelectExpr, operators},
        types::CelOptional,
    },
    extensions,
    objects::Map,
    parser::{Macro, MacroExprHelper, ParseError},
};
use serde_json::Value;

use super::{Finding, Weight, yaml::Path};
use crate::api::Span;

/// Name of what is found here.
pub const RULE: &str = "rule";
/// Names that CEL keeps for itself; a field of such a name is written between underscores.
const RESERVED: [&str; 20] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "true",
    "false",
    "null",
];
/// Makes a list of `{index, item}` of a list.
const ENTRIES: &str = "__entries__";

/// Evaluates rules; each is compiled once.
pub struct Rules {
    env: Arc<Env>,
    context: Context<'static, 'static>,
    compiled: HashMap<String, Result<Program, String>>,
}

impl Default for Rules {
    fn default() -> Self {
        let mut env = Env::stdlib();
        for (name, all) in [(operators::ALL, true), (operators::EXISTS, false)] {
            let indexed =
                move |helper: &mut MacroExprHelper<'_>, target: &mut Option<IdedExpr>, args: &mut Vec<IdedExpr>| {
                    with_index(all, helper, target, args)
                };
            env.add_macro(Macro::receiver(name, 3, indexed)).expect("the standard has these with two arguments only");
        }
        env.add_extension(extensions::strings).expect("nothing else declares these functions");
        let env = Arc::new(env);
        let mut context = Context::with_env(Arc::clone(&env));
        context.add_function("duration", duration).expect("the standard's own needs a crate for time zones");
        context.add_function(ENTRIES, entries).expect("nobody else has a function of this name");
        context.add_variable_as_val("oldSelf", Box::new(CelOptional::none()));
        Self { env, context, compiled: HashMap::new() }
    }
}

/// `list.all(i, item, condition)`: binds both names by a list of one each, within the standard's own macro.
fn with_index(
    all: bool,
    helper: &mut MacroExprHelper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
) -> Result<Option<IdedExpr>, ParseError> {
    let condition = args.pop().expect("it has three arguments");
    let (item, index) = (args.pop().expect("it has three arguments"), args.pop().expect("it has three arguments"));
    let list = target.take().expect("it is called on something");
    let entry = "__entry__";
    let ident = |name: &IdedExpr| match &name.expr {
        Expr::Ident(name) => Some(name.clone()),
        _ => None,
    };
    let (Some(index), Some(item)) = (ident(&index), ident(&item)) else {
        return Err(helper.new_error(0, "the first two arguments are names"));
    };
    let entries =
        helper.next_expr(Expr::Call(CallExpr { func_name: ENTRIES.to_owned(), target: None, args: vec![list] }));
    let field = |helper: &mut MacroExprHelper<'_>, field: &str| {
        let operand = Box::new(helper.next_expr(Expr::Ident(entry.to_owned())));
        let value = helper.next_expr(Expr::Select(SelectExpr { operand, field: field.to_owned(), test: false }));
        helper.next_expr(Expr::List(ListExpr::new(vec![value])))
    };
    let items = field(helper, "item");
    let inner = fold(all, helper, items, item, condition);
    let indices = field(helper, "index");
    let outer = fold(all, helper, indices, index, inner);
    Ok(Some(fold(all, helper, entries, entry.to_owned(), outer)))
}

/// What the standard makes of `range.all(variable, condition)` or `range.exists(variable, condition)`.
fn fold(
    all: bool,
    helper: &mut MacroExprHelper<'_>,
    range: IdedExpr,
    variable: String,
    condition: IdedExpr,
) -> IdedExpr {
    use cel::common::ast::{ComprehensionExpr, LiteralValue};
    let result = "@result".to_owned();
    let literal = |helper: &mut MacroExprHelper<'_>, value: bool| {
        helper.next_expr(Expr::Literal(LiteralValue::Boolean(value.into())))
    };
    let call = |helper: &mut MacroExprHelper<'_>, name: &str, args: Vec<IdedExpr>| {
        helper.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
    };
    let accu_init = literal(helper, all);
    let known = helper.next_expr(Expr::Ident(result.clone()));
    let goes_on = if all { known } else { call(helper, operators::LOGICAL_NOT, vec![known]) };
    let loop_cond = call(helper, operators::NOT_STRICTLY_FALSE, vec![goes_on]);
    let known = helper.next_expr(Expr::Ident(result.clone()));
    let join = if all { operators::LOGICAL_AND } else { operators::LOGICAL_OR };
    let loop_step = call(helper, join, vec![known, condition]);
    let last = helper.next_expr(Expr::Ident(result.clone()));
    helper.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: range,
        iter_var: variable,
        iter_var2: None,
        accu_var: result,
        accu_init,
        loop_cond,
        loop_step,
        result: last,
    })))
}

#[expect(clippy::needless_pass_by_value, reason = "CEL hands over what it calls with")]
fn duration(text: Arc<String>) -> Result<i64, ExecutionError> {
    let span: Span = text.parse().map_err(|error| ExecutionError::function_error("duration", format!("{error}")))?;
    Ok(span.as_millis())
}

#[expect(clippy::needless_pass_by_value, reason = "CEL hands over what it calls with")]
fn entries(list: Arc<Vec<Cel>>) -> Cel {
    let entry = |(index, item): (usize, &Cel)| {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let fields = [("index".into(), Cel::Int(index)), ("item".into(), item.clone())];
        Cel::Map(Map { map: Arc::new(HashMap::from(fields)) })
    };
    Cel::List(Arc::new(list.iter().enumerate().map(entry).collect()))
}

impl Rules {
    /// Evaluates the rules of a schema node and of all below it. Nothing is asked about a node below which something is
    /// wrong already: a rule may rely on the types.
    pub fn check(&mut self, value: &Value, schema: &Value, path: &Path, findings: &mut Vec<Finding>) {
        match value {
            Value::Object(fields) => {
                for (name, child) in fields {
                    let own = &schema["properties"][name];
                    let schema = if own.is_object() { own } else { &schema["additionalProperties"] };
                    self.check(child, schema, &path.field(name), findings);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check(item, &schema["items"], &path.item(index), findings);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        let Some(rules) = schema["x-kubernetes-validations"].as_array() else { return };
        if findings.iter().any(|finding| finding.path.is_below(path) && finding.rule == super::schema::RULE) {
            return;
        }
        let this = to_cel(value, schema);
        for rule in rules {
            findings.extend(self.ask(rule, &this, path));
        }
    }

    fn ask(&mut self, rule: &Value, this: &Cel, path: &Path) -> Option<Finding> {
        let text = rule["rule"].as_str()?;
        if text.contains("oldSelf") && rule["optionalOldSelf"] != true {
            return None;
        }
        let at = rule["fieldPath"].as_str().map_or_else(
            || path.clone(),
            |field| {
                let mut at = path.clone();
                at.0.extend(Path::parse(field).0);
                at
            },
        );
        let found = |message: String| Some(Finding::new(RULE, Weight::Error, at.clone(), message));
        match self.evaluate(text, this) {
            Ok(Cel::Bool(true)) => None,
            Ok(Cel::Bool(false)) => {
                let said = rule["messageExpression"].as_str().and_then(|said| match self.evaluate(said, this) {
                    Ok(Cel::String(said)) => Some(said.to_string()),
                    _ => None,
                });
                found(said.unwrap_or_else(|| rule["message"].as_str().unwrap_or(text).to_owned()))
            }
            Ok(other) => found(format!("the rule {text:?} answers {other:?}")),
            Err(error) => found(format!("the rule {text:?} can't be evaluated: {error}")),
        }
    }

    fn evaluate(&mut self, text: &str, this: &Cel) -> Result<Cel, String> {
        let env = &self.env;
        let compiled = self
            .compiled
            .entry(text.to_owned())
            .or_insert_with(|| env.compile(text).map_err(|errors| errors.to_string()));
        let program = compiled.as_ref().map_err(Clone::clone)?;
        let mut scope = self.context.new_inner_scope();
        scope.add_variable_from_value("self", this.clone());
        program.execute(&scope).map_err(|error| error.to_string())
    }
}

/// A value as Kubernetes' CEL has it: by its schema, so that `1` is a double where the schema says `number`.
fn to_cel(value: &Value, schema: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (schema["type"].as_str(), number.as_i64()) {
            (Some("number"), _) | (_, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            (_, Some(whole)) => Cel::Int(whole),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(|item| to_cel(item, &schema["items"])).collect())),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let own = &schema["properties"][name];
                if own.is_object() {
                    let reserved = RESERVED.contains(&name.as_str());
                    let name = if reserved { format!("__{name}__") } else { name.clone() };
                    (name.into(), to_cel(value, own))
                } else {
                    (name.clone().into(), to_cel(value, &schema["additionalProperties"]))
                }
            };
            Cel::Map(Map { map: Arc::new(fields.iter().map(field).collect()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn is_true(rule: &str, this: &Value) -> bool {
        let this = to_cel(this, &json!({}));
        match Rules::default().evaluate(rule, &this) {
            Ok(Cel::Bool(answer)) => answer,
            other => panic!("{rule}: {other:?}"),
        }
    }

    #[test]
    fn a_list_can_be_walked_with_its_index() {
        let this = json!(["a", "b", "c"]);
        assert!(is_true("self.all(i, x, i < 3 && x in self)", &this));
        assert!(is_true("self.exists(i, x, i == 1 && x == 'b')", &this));
        assert!(!is_true("self.all(i, x, i == 0)", &this));
        assert!(is_true("self.all(i, x, !self.exists(j, y, j < i && x == y))", &this));
        assert!(!is_true("self.all(i, x, !self.exists(j, y, j < i && x == y))", &json!(["a", "b", "a"])));
    }

    #[test]
    fn durations_are_compared() {
        assert!(is_true("duration('1h30m') > duration('5000s') && duration('10ms') <= duration('1s')", &json!(0)));
    }

    #[test]
    fn every_rule_of_the_crd_can_be_read() {
        let env = Rules::default().env;
        for rule in crate::api::rules::all() {
            let texts = [Some(rule.rule.as_str()), rule.said];
            for text in texts.into_iter().flatten() {
                assert!(env.compile(text).is_ok(), "{text}: {:?}", env.compile(text).err());
            }
        }
    }
}
