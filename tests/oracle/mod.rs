//! The oracle's table: chains, what is trusted of them, and what comes out; one file per family.
//!
//! A case says what both have to decide. Where skytls decides otherwise on purpose, or where a later line of
//! OpenSSL does, linked or as the `openssl` command, the case says so, and why.

pub(crate) mod der;
pub(crate) mod extension;
pub(crate) mod keys;
pub(crate) mod mint;

mod constraints;
mod cross;
mod dates;
mod encodings;
mod extensions;
mod identifiers;
mod names;
mod path;
mod revocation;
mod trust;
mod usage;
mod weakness;
mod wire;

use std::fmt;

use mint::{Key, Made, Recipe};

/// A server, who is trusted to know it, and what has to come out.
pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) what: &'static str,
    /// The CA file.
    pub(crate) trusted: String,
    /// The server's file, leaf first.
    pub(crate) sent: String,
    pub(crate) key: Key,
    /// What is verified: a DNS name or an IP address.
    pub(crate) name: String,
    /// The name as the `openssl` command is given it, when it is another one.
    pub(crate) name_of_judge: Option<String>,
    pub(crate) demands: Vec<Demand>,
    /// More arguments of `s_server`.
    pub(crate) server: &'static [&'static str],
    pub(crate) verdict: Verdict,
    /// skytls decides otherwise on purpose.
    pub(crate) deliberate: Option<(Verdict, &'static str)>,
    /// OpenSSL decides otherwise from these lines on, for these reasons; the later ones behind.
    pub(crate) since: Vec<(Line, Verdict, &'static str)>,
}

/// A line of OpenSSL that decides otherwise than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    V3_0,
    /// What is new in it may be so since 3.2.
    V3_5,
    V4,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Trusted,
    /// By this number of `X509_STORE_CTX_get_error(3)`; 0 when the handshake fails for another reason.
    Refused(i32),
}

/// What is demanded besides trust, in the words of both.
#[derive(Debug, Clone)]
pub(crate) enum Demand {
    Strict,
    Depth(u32),
    Level(u32),
    NoPartialChain,
    /// These lists, for the whole chain.
    Lists(String),
    /// Of the judge alone: skytls has no such setting.
    OfJudge(&'static [&'static str]),
}

/// What a chain is made of: the first is trusted, the rest is sent, the leaf first.
pub(crate) struct Way {
    pub(crate) root: Made,
    pub(crate) sent: Vec<Made>,
}

type Family = fn() -> Vec<Case>;

pub(crate) use Verdict::{Refused, Trusted};

/// Every case of every family.
pub(crate) fn cases() -> Vec<Case> {
    let families: [(&str, Family); 13] = [
        ("path", path::cases),
        ("names", names::cases),
        ("usage", usage::cases),
        ("constraints", constraints::cases),
        ("dates", dates::cases),
        ("weakness", weakness::cases),
        ("identifiers", identifiers::cases),
        ("cross", cross::cases),
        ("extensions", extensions::cases),
        ("encodings", encodings::cases),
        ("trust", trust::cases),
        ("revocation", revocation::cases),
        ("wire", wire::cases),
    ];
    let named =
        |(family, cases): (_, Family)| cases().into_iter().map(move |case| Case { family, ..case });
    families.into_iter().flat_map(named).collect()
}

/// A chain from a root, which is trusted, by intermediates from above downwards, to a leaf.
pub(crate) fn way(root: Recipe, between: impl IntoIterator<Item = Recipe>, leaf: Recipe) -> Way {
    let root = root.own();
    let mut above = root.clone();
    let mut sent = Vec::new();
    for recipe in between.into_iter().chain([leaf]) {
        above = recipe.by(&above);
        sent.insert(0, above.clone());
    }
    Way { root, sent }
}

/// A chain of a proper root and this leaf.
pub(crate) fn below_root(leaf: Recipe) -> Way {
    way(mint::root(), [], leaf)
}

/// A case of a way.
pub(crate) fn case(what: &'static str, way: &Way, verdict: Verdict) -> Case {
    let sent: Vec<&Made> = way.sent.iter().collect();
    of(what, &[&way.root], &sent, verdict)
}

/// A case of what is trusted, and what is sent, the leaf first.
pub(crate) fn of(what: &'static str, trusted: &[&Made], sent: &[&Made], verdict: Verdict) -> Case {
    let file = |all: &[&Made]| all.iter().map(|made| made.pem()).collect::<String>();
    Case {
        family: "",
        what,
        trusted: file(trusted),
        sent: file(sent),
        key: sent[0].key,
        name: "localhost".to_owned(),
        name_of_judge: None,
        demands: Vec::new(),
        server: &[],
        verdict,
        deliberate: None,
        since: Vec::new(),
    }
}

// === impl Case ===

impl Case {
    /// Verifies this name or address.
    pub(crate) fn name(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The judge gets the name in another form.
    pub(crate) fn judge_knows_it_as(self, name: &str) -> Self {
        Self { name_of_judge: Some(name.to_owned()), ..self }
    }

    pub(crate) fn demand(mut self, demand: Demand) -> Self {
        self.demands.push(demand);
        self
    }

    /// This is the CA file.
    pub(crate) fn trusting(self, trusted: String) -> Self {
        Self { trusted, ..self }
    }

    pub(crate) fn server(self, server: &'static [&'static str]) -> Self {
        Self { server, ..self }
    }

    /// skytls decides otherwise, for this reason.
    pub(crate) fn but(self, verdict: Verdict, reason: &'static str) -> Self {
        Self { deliberate: Some((verdict, reason)), ..self }
    }

    /// OpenSSL decides otherwise from this line on, for this reason.
    pub(crate) fn since(mut self, line: Line, verdict: Verdict, reason: &'static str) -> Self {
        self.since.push((line, verdict, reason));
        self
    }

    /// What OpenSSL of this line decides.
    pub(crate) fn verdict_of(&self, line: Line) -> Verdict {
        let latest = self.since.iter().rev().find(|(since, ..)| *since <= line);
        latest.map_or(self.verdict, |(_, verdict, _)| *verdict)
    }

    /// What skytls has to decide when it is linked with an OpenSSL of this line.
    pub(crate) fn expected(&self, line: Line) -> Verdict {
        self.deliberate.map_or_else(|| self.verdict_of(line), |(verdict, _)| verdict)
    }
}

// === impl Line ===

impl Line {
    /// Of a version as OpenSSL writes it: `OpenSSL 3.0.19 27 Jan 2026`.
    pub(crate) fn of(version: &str) -> Self {
        let numbers = version.split(' ').nth(1).unwrap_or_else(|| panic!("no version: {version}"));
        let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
            (4.., _) => Self::V4,
            (3, 5..) => Self::V3_5,
            _ => Self::V3_0,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.family, self.what)
    }
}
