//! `matrix.txt`, read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use trimtab_apiserver_auth::Attributes;

/// The verbs of resources, by their letters.
pub(super) const VERBS: [(char, &str); 13] = [
    ('g', "get"),
    ('l', "list"),
    ('w', "watch"),
    ('c', "create"),
    ('u', "update"),
    ('p', "patch"),
    ('d', "delete"),
    ('D', "deletecollection"),
    ('b', "bind"),
    ('e', "escalate"),
    ('i', "impersonate"),
    ('a', "approve"),
    ('s', "sign"),
];
/// Those of paths.
pub(super) const PATH_VERBS: [(char, &str); 2] = [('g', "get"), ('o', "post")];

/// What can be asked for: `GROUP/RESOURCE[/SUBRESOURCE][=NAME]`, or a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing(String);

impl Thing {
    pub(super) fn resource(group: &str, plural: &str) -> Self {
        let group = if group.is_empty() { "core" } else { group };
        Self(format!("{group}/{plural}"))
    }

    pub(super) fn below(&self, subresource: &str) -> Self {
        Self(format!("{self}/{subresource}"))
    }

    pub(super) fn is_path(&self) -> bool {
        self.0.starts_with('/')
    }

    pub(super) fn attributes(&self, verb: &str, namespace: &str) -> Attributes {
        let verb = verb.to_owned();
        if self.is_path() {
            return Attributes {
                verb,
                path: self.0.clone(),
                ..Attributes::default()
            };
        }
        let (what, name) = self.0.split_once('=').unwrap_or((&self.0, ""));
        let (group, what) = what.split_once('/').expect("a group and a resource");
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        Attributes {
            verb,
            group: if group == "core" { "" } else { group }.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_resource: true,
            path: String::new(),
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Somebody whom bindings of every cluster name.
#[derive(Clone, Debug)]
pub(super) enum Holder {
    User(String),
    Group(String),
}

/// Who is asked about, and where.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) holder: Holder,
    pub(super) namespace: String,
}

/// What one role or subject may do.
#[derive(Default)]
struct Cells {
    named: BTreeMap<Thing, String>,
    /// With all resources that are not named.
    others: String,
}

/// The whole table.
#[derive(Default)]
pub(super) struct Table {
    things: BTreeSet<Thing>,
    columns: Vec<String>,
    roles: Vec<(String, Cells)>,
    subjects: Vec<(Subject, Cells)>,
}

impl Table {
    pub(super) fn read(text: &str) -> Self {
        let mut table = Self::default();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (line.starts_with(' '), words.as_slice()) {
                (false, ["matrix", roles @ ..]) => {
                    table.columns = roles.iter().map(|role| (*role).to_owned()).collect();
                    let roles = table.columns.iter().map(|role| (role.clone(), Cells::default()));
                    table.roles.extend(roles);
                }
                (false, ["role", role]) => table.roles.push(((*role).to_owned(), Cells::default())),
                (false, ["subject", kind, name, more @ ..]) => {
                    let name = (*name).to_owned();
                    let holder = match *kind {
                        "user" => Holder::User(name),
                        _ => Holder::Group(name),
                    };
                    let namespace = more.first().and_then(|word| word.strip_prefix("in="));
                    let namespace = namespace.unwrap_or("a").to_owned();
                    table
                        .subjects
                        .push((Subject { holder, namespace }, Cells::default()));
                }
                (true, [thing, letters @ ..]) if table.roles.len() == table.columns.len() => {
                    let thing = Thing((*thing).to_owned());
                    for ((_, cells), letters) in table.roles.iter_mut().zip(letters) {
                        cells.named.insert(thing.clone(), (*letters).to_owned());
                    }
                    table.things.insert(thing);
                }
                (true, [letters, things @ ..]) => {
                    let last = table.subjects.last_mut().map(|(_, cells)| cells);
                    let cells = last.or(table.roles.last_mut().map(|(_, cells)| cells));
                    let cells = cells.expect("a line of somebody");
                    for thing in things {
                        if *thing == "others" {
                            cells.others = (*letters).to_owned();
                            continue;
                        }
                        let thing = Thing((*thing).to_owned());
                        assert!(table.things.contains(&thing), "{thing} is not in the matrix");
                        cells.named.insert(thing, (*letters).to_owned());
                    }
                }
                _ => panic!("not understood: {line}"),
            }
        }
        table
    }

    pub(super) fn things(&self) -> impl Iterator<Item = &Thing> {
        self.things.iter()
    }

    pub(super) fn roles(&self) -> impl Iterator<Item = (&str, impl Fn(&Thing) -> String)> {
        self.roles
            .iter()
            .map(|(role, cells)| (role.as_str(), |thing: &Thing| cells.letters(thing)))
    }

    pub(super) fn subjects(&self) -> impl Iterator<Item = (&Subject, impl Fn(&Thing) -> String)> {
        self.subjects
            .iter()
            .map(|(subject, cells)| (subject, |thing: &Thing| cells.letters(thing)))
    }

    /// Whether a role is one of those that users are given.
    pub(super) fn is_column(&self, role: &str) -> bool {
        self.columns.iter().any(|column| column == role)
    }
}

impl Cells {
    /// The letters of the verbs that are allowed, in the order of [`VERBS`].
    fn letters(&self, thing: &Thing) -> String {
        let others = if thing.is_path() { "" } else { &self.others };
        let letters = self.named.get(thing).map_or(others, String::as_str);
        let verbs = if thing.is_path() {
            &PATH_VERBS[..]
        } else {
            &VERBS[..]
        };
        match letters {
            "*" => verbs.iter().map(|(letter, _)| *letter).collect(),
            "-" => String::new(),
            letters => letters.to_owned(),
        }
    }
}
