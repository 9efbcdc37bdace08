//! What can be taken out of a CEL expression or turned around, found by counting brackets and quotes.
//!
//! Knows nothing of types or names: what doesn't compile any more, the API server refuses to store.

use std::ops::Range;

/// An expression that says something else, and in which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    pub how: String,
    pub text: String,
}

/// What divides the text of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Comma,
    /// After a field's name.
    Field,
    Question,
    Colon,
    Or,
    And,
}

/// What stands between two brackets; or the whole.
#[derive(Debug)]
struct Group {
    /// Whether it is a list, or the fields of an object: each entry could be left out.
    lists: bool,
    inside: Range<usize>,
    cuts: Vec<(Cut, Range<usize>)>,
}

/// Each operand of `&&` and `||` left out, each condition of `?:` taken for true and for false, and each entry of a list or an object left out.
pub fn alterations(text: &str) -> Vec<Altered> {
    let mut all = vec![];
    for group in groups(text) {
        for entry in group.split(&group.inside, |cut| cut == Cut::Comma) {
            for part in group.split(&entry, |cut| matches!(cut, Cut::Field | Cut::Question | Cut::Colon)) {
                all.extend(group.without_operands(text, &part));
                if group.ends_in(&part, Cut::Question) {
                    let condition = shown(text, &part);
                    for verdict in ["true", "false"] {
                        all.push(Altered {
                            how: format!("`{condition}` taken for {verdict}"),
                            text: spliced(text, &part, &format!(" {verdict} ")),
                        });
                    }
                }
            }
        }
        if group.lists {
            all.extend(group.without_each(text, &group.inside, Cut::Comma));
        }
    }
    all
}

/// The expression turned around.
pub fn negated(text: &str) -> String {
    format!("!({text})")
}

impl Group {
    /// The parts of `range` between cuts of some kind.
    fn split(&self, range: &Range<usize>, is_cut: impl Fn(Cut) -> bool) -> Vec<Range<usize>> {
        let mut parts = vec![];
        let mut start = range.start;
        for (cut, at) in &self.cuts {
            if range.contains(&at.start) && is_cut(*cut) {
                parts.push(start..at.start);
                start = at.end;
            }
        }
        parts.push(start..range.end);
        parts
    }

    fn ends_in(&self, part: &Range<usize>, kind: Cut) -> bool {
        self.cuts.iter().any(|(cut, at)| *cut == kind && at.start == part.end)
    }

    fn without_operands(&self, text: &str, part: &Range<usize>) -> Vec<Altered> {
        let mut all = self.without_each(text, part, Cut::Or);
        for operand in self.split(part, |cut| cut == Cut::Or) {
            all.extend(self.without_each(text, &operand, Cut::And));
        }
        all
    }

    /// `range` without each of its parts in turn, and without what joins it to the others. Of operands one must stay.
    fn without_each(&self, text: &str, range: &Range<usize>, kind: Cut) -> Vec<Altered> {
        let parts = self.split(range, |cut| cut == kind);
        let alone = parts.len() == 1;
        if alone && (kind != Cut::Comma || text[range.clone()].trim().is_empty()) {
            return vec![];
        }
        let cut = |index: usize| match (index, parts.get(index + 1)) {
            (_, Some(next)) => parts[index].start..next.start,
            (0, None) => parts[0].clone(),
            (_, None) => parts[index - 1].end..parts[index].end,
        };
        parts
            .iter()
            .enumerate()
            .map(|(index, part)| Altered {
                how: format!("without `{}`", shown(text, part)),
                text: spliced(text, &cut(index), " "),
            })
            .collect()
    }
}

fn shown(text: &str, part: &Range<usize>) -> String {
    text[part.clone()].split_whitespace().collect::<Vec<_>>().join(" ")
}

fn spliced(text: &str, range: &Range<usize>, with: &str) -> String {
    format!("{}{with}{}", &text[..range.start], &text[range.end..])
}

/// The whole, and what stands in each pair of brackets.
fn groups(text: &str) -> Vec<Group> {
    let bytes = text.as_bytes();
    let begun = |at: usize, lists: bool| Group {
        lists,
        inside: at..text.len(),
        cuts: vec![],
    };
    let (mut open, mut closed, mut quote) = (vec![begun(0, false)], vec![], None);
    let mut at = 0;
    while at < bytes.len() {
        let (here, next) = (bytes[at], bytes.get(at + 1).copied().unwrap_or_default());
        let spaced = next.is_ascii_whitespace() && at > 0 && bytes[at - 1].is_ascii_whitespace();
        let mut cut = |kind: Cut, length: usize| {
            if let Some(group) = open.last_mut() {
                group.cuts.push((kind, at..at + length));
            }
        };
        match (quote, here) {
            (Some(_), b'\\') => at += 1,
            (Some(end), _) if here == end => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(here),
            (None, b'[') => {
                let follows = text[..at].chars().next_back();
                let indexes = follows.is_some_and(|c| c.is_alphanumeric() || ")]}'_".contains(c));
                open.push(begun(at + 1, !indexes));
            }
            (None, b'{') => open.push(begun(at + 1, true)),
            (None, b'(') => open.push(begun(at + 1, false)),
            (None, b')' | b']' | b'}') => {
                let mut group = open.pop().expect("brackets come in pairs");
                group.inside.end = at;
                closed.push(group);
            }
            (None, b',') => cut(Cut::Comma, 1),
            (None, b'?') if spaced => cut(Cut::Question, 1),
            (None, b':') if spaced => cut(Cut::Colon, 1),
            (None, b':') if next.is_ascii_whitespace() => cut(Cut::Field, 1),
            (None, b'|') if next == b'|' => {
                cut(Cut::Or, 2);
                at += 1;
            }
            (None, b'&') if next == b'&' => {
                cut(Cut::And, 2);
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    closed.extend(open);
    closed
}

/// That it finds what there is to be found.
pub fn expressions_are_taken_apart() {
    let how = |text: &str| -> Vec<String> { alterations(text).into_iter().map(|altered| altered.how).collect() };
    let texts = |text: &str| -> Vec<String> {
        let squeezed = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        alterations(text)
            .into_iter()
            .map(|altered| squeezed(altered.text))
            .collect()
    };
    assert_eq!(texts("a || b && c"), ["b && c", "a", "a || c", "a || b"]);
    assert_eq!(
        how("!(a || b) && c"),
        ["without `a`", "without `b`", "without `!(a || b)`", "without `c`"]
    );
    assert_eq!(
        texts("x.all(y, y == 'a || b' || z)"),
        ["x.all(y, z)", "x.all(y, y == 'a || b' )"]
    );
    assert_eq!(texts("u in ['a', 'it\\'s, b']"), ["u in [ 'it\\'s, b']", "u in ['a' ]"]);
    assert_eq!(texts("m[?'k'].orValue([])"), [""; 0]);
    assert_eq!(
        texts("a && b ? x : y"),
        ["b ? x : y", "a ? x : y", "true ? x : y", "false ? x : y"]
    );
    assert_eq!(texts("O{a: 1, ?b: c.?d}"), ["O{ ?b: c.?d}", "O{a: 1 }"]);
    assert_eq!(
        how("O{?c: a ? x : y}"),
        ["`a` taken for true", "`a` taken for false", "without `?c: a ? x : y`"]
    );
    assert_eq!(negated("a"), "!(a)");
}
