//! YAML with the place of everything in it, so that a finding can point at its line. Read as `kubectl` reads it: YAML 1.1's
//! words for yes and no, and no key twice.

use std::{collections::BTreeMap, fmt, iter::Peekable};

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// Aliases may repeat what they name again and again; more nodes than this are no manifest.
const MAX_NODES: usize = 200_000;

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A step from a node to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of a mapping.
    Field(String),
    /// An item of a list, from 0.
    Item(usize),
}

/// The way from a document's root to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

/// A node with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A text, with the line on which its first character stands.
    Scalar(String, ScalarStyle),
    /// Fields in the order of the file, each with the place of its key.
    Mapping(Vec<(String, Place, Node)>),
    /// Items.
    List(Vec<Node>),
}

/// What is wrong with a text that should be YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotYaml {
    /// Where.
    pub at: Place,
    /// What.
    pub message: String,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => write!(f, "{name}")?,
                Step::Field(name) if name.contains(['.', '/']) => write!(f, "[{name}]")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Path {
    /// A path as the operator writes it, such as `spec.phases[1].sql`.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.').filter(|part| !part.is_empty()) {
            let mut rest = part.split('[');
            steps.extend(rest.next().filter(|name| !name.is_empty()).map(|name| Step::Field(name.to_owned())));
            steps.extend(rest.filter_map(|index| index.trim_end_matches(']').parse().ok().map(Step::Item)));
        }
        Self(steps)
    }

    /// One field further.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Field(name.to_owned()));
        Self(steps)
    }

    /// One item further.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Self(steps)
    }

    /// Whether it leads to the same node as another, or to one below that.
    pub fn is_below(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl Node {
    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(fields) => fields.iter().find(|(key, ..)| key == name).map(|(_, _, node)| node),
            Kind::Scalar(..) | Kind::List(_) => None,
        }
    }

    /// A field's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.kind {
            Kind::Scalar(text, _) => Some(text),
            Kind::Mapping(_) | Kind::List(_) => None,
        }
    }

    /// The node that a path leads to, or the last one on the way that is there; and the place to show for it.
    pub fn find(&self, path: &Path) -> (&Node, Place) {
        let (mut node, mut at) = (self, self.at);
        for step in &path.0 {
            let next = match (step, &node.kind) {
                (Step::Field(name), Kind::Mapping(fields)) => {
                    fields.iter().find(|(key, ..)| key == name).map(|(_, at, node)| (node, *at))
                }
                (Step::Item(index), Kind::List(items)) => items.get(*index).map(|node| (node, node.at)),
                _ => None,
            };
            let Some(next) = next else { break };
            (node, at) = next;
        }
        (node, at)
    }

    /// The line on which a line of a text stands, from 1: in a block, each has one of its own.
    pub fn line_of(&self, line: usize) -> usize {
        let blank = match &self.kind {
            // Its place is that of the first line that holds anything.
            Kind::Scalar(text, ScalarStyle::Literal) => text.len() - text.trim_start_matches('\n').len(),
            Kind::Scalar(..) | Kind::Mapping(_) | Kind::List(_) => 0,
        };
        (self.at.line + line).saturating_sub(1 + blank)
    }

    /// The node as JSON. A field whose value is null is as if it were absent, as the API server has it.
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(text, ScalarStyle::Plain) => resolve(text),
            Kind::Scalar(text, _) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Node::value).collect(),
            Kind::Mapping(fields) => {
                let fields = fields.iter().map(|(name, _, node)| (name.clone(), node.value()));
                Value::Object(fields.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
            }
        }
    }
}

/// What an unquoted word is.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let plain = text.replace('_', "");
    let (sign, digits) = plain.strip_prefix('-').map_or((1, plain.as_str()), |rest| (-1, rest));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let based =
        |prefix: &str, radix| digits.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, radix).ok());
    if let Some(whole) = based("0x", 16).or_else(|| based("0o", 8)).or_else(|| based("0b", 2)) {
        return (sign * whole).into();
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // YAML 1.1: a leading zero makes it octal, or a float where it can't be.
        return i64::from_str_radix(digits, 8).map_or_else(|_| float(&plain, text), |whole| (sign * whole).into());
    }
    if let Ok(whole) = plain.parse::<i64>() {
        return whole.into();
    }
    float(&plain, text)
}

fn float(plain: &str, text: &str) -> Value {
    let looks_like_one = plain.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && plain.bytes().any(|byte| byte.is_ascii_digit())
        && plain.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = looks_like_one.then(|| plain.parse().ok()).flatten().and_then(Number::from_f64);
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// Reads every document of a text. What comes after something that isn't YAML is not read.
pub fn read(text: &str) -> (Vec<Node>, Option<NotYaml>) {
    let mut reader = Reader { events: Parser::new_from_str(text).peekable(), anchors: BTreeMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(node)) => documents.push(node),
            Ok(None) => return (documents, None),
            Err(error) => return (documents, Some(error)),
        }
    }
}

struct Reader<'a> {
    events: Peekable<Parser<'a, StrInput<'a>>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>, NotYaml> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, place(&span)))),
            Some(Err(error)) => Err(refuse(&error)),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, NotYaml> {
        while let Some((event, at)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::Comment(..) => {}
                Event::StreamEnd => return Ok(None),
                event => return self.node(event, at).map(Some),
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'a>, at: Place) -> Result<Node, NotYaml> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(NotYaml { at, message: format!("there are more than {MAX_NODES} values") });
        }
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, Kind::Scalar(text.into_owned(), style)),
            Event::SequenceStart(_, anchor, _) => (anchor, self.list()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            Event::Alias(anchor) => {
                let named = self.anchors.get(&anchor).cloned();
                let named = named.ok_or_else(|| NotYaml { at, message: "the alias names nothing".to_owned() })?;
                self.nodes += count(&named);
                return Ok(Node { at, ..named });
            }
            other => return Err(NotYaml { at, message: format!("{other:?} can't stand here") }),
        };
        let node = Node { at, kind };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Kind, NotYaml> {
        let mut items = Vec::new();
        while let Some((event, at)) = self.next()? {
            match event {
                Event::SequenceEnd => break,
                Event::Comment(..) => {}
                event => items.push(self.node(event, at)?),
            }
        }
        Ok(Kind::List(items))
    }

    fn mapping(&mut self) -> Result<Kind, NotYaml> {
        let mut fields: Vec<(String, Place, Node)> = Vec::new();
        let mut merged = Vec::new();
        while let Some((event, at)) = self.next()? {
            let key = match event {
                Event::MappingEnd => break,
                Event::Comment(..) => continue,
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(NotYaml { at, message: "a key must be a text".to_owned() }),
            };
            let (event, value_at) = loop {
                match self.next()? {
                    Some((Event::Comment(..), _)) => {}
                    Some(value) => break value,
                    None => return Err(NotYaml { at, message: format!("the key {key} has no value") }),
                }
            };
            let node = self.node(event, value_at)?;
            if key == "<<" {
                merged.push(node);
                continue;
            }
            if fields.iter().any(|(known, ..)| *known == key) {
                return Err(NotYaml { at, message: format!("the key `{key}` is already set in this mapping") });
            }
            fields.push((key, at, node));
        }
        for node in merged {
            let Kind::Mapping(others) = node.kind else { continue };
            let new = others.into_iter().filter(|(key, ..)| fields.iter().all(|(known, ..)| known != key));
            let new: Vec<_> = new.collect();
            fields.extend(new);
        }
        Ok(Kind::Mapping(fields))
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(..) => 1,
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Mapping(fields) => 1 + fields.iter().map(|(_, _, node)| count(node)).sum::<usize>(),
    }
}

fn place(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn refuse(error: &ScanError) -> NotYaml {
    let at = Place { line: error.marker().line(), column: error.marker().col() + 1 };
    NotYaml { at, message: error.info() }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Node {
        let (documents, error) = read(text);
        assert_eq!((documents.len(), error), (1, None));
        documents.into_iter().next().unwrap()
    }

    #[test]
    fn everything_has_its_place() {
        let node = one("# first\nspec:\n  phases:\n    - name: one\n    - {name: two, sql: {up: x}}\n");
        let at = |path: &str| {
            let (_, at) = node.find(&Path::parse(path));
            (at.line, at.column)
        };
        assert_eq!(at("spec.phases"), (3, 3));
        assert_eq!(at("spec.phases[0].name"), (4, 7));
        assert_eq!(at("spec.phases[1].sql.up"), (5, 25));
        assert_eq!(at("spec.phases[1].sql.down"), (5, 19), "what isn't there is shown where it belongs");
    }

    #[test]
    fn a_line_of_a_script_is_a_line_of_the_file() {
        let node = one("a: |\n  first\n  second\nb: \"only\"\n");
        assert_eq!(node.get("a").unwrap().line_of(2), 3);
        assert_eq!(node.get("b").unwrap().line_of(1), 4);
        let node = one("a: |\n\n\n  third\n  fourth\n");
        assert_eq!(node.get("a").unwrap().line_of(4), 5);
    }

    #[test]
    fn words_are_read_as_kubectl_reads_them() {
        let text = "[yes, 'yes', 010, 1.5, 1e3, 5m, ~, v1, 0x10, 1_000, .5, -3, 1.2.3, 2026-01-01]";
        let values = json!([true, "yes", 8, 1.5, 1000.0, "5m", null, "v1", 16, 1000, 0.5, -3, "1.2.3", "2026-01-01"]);
        assert_eq!(one(text).value(), values);
    }

    #[test]
    fn a_key_written_twice_and_what_is_no_yaml_are_refused_at_their_place() {
        let (_, error) = read("a: 1\nb: 2\na: 3\n");
        assert_eq!(error.map(|error| (error.at.line, error.message.contains("`a`"))), Some((3, true)));
        let (documents, error) = read("a: 1\n---\nb: [1\n---\nc: 2\n");
        assert_eq!((documents.len(), error.is_some()), (1, true), "{documents:?}");
    }

    #[test]
    fn aliases_and_merges_stand_for_what_they_name() {
        let text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nsame: *base\n";
        assert_eq!(
            one(text).value(),
            json!({"base": {"a": 1, "b": 2}, "more": {"b": 3, "a": 1}, "same": {"a": 1, "b": 2}})
        );
    }

    #[test]
    fn aliases_can_not_blow_up() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let last = level - 1;
            let repeated = vec![format!("*a{last}"); 7].join(", ");
            writeln!(text, "a{level}: &a{level} [{repeated}]").unwrap();
        }
        assert!(read(&text).1.is_some_and(|error| error.message.contains("more than")));
    }
}
