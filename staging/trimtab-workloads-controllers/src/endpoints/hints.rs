//! Hints by what nodes can do: which zone each endpoint is for, so that zones have about the share of all endpoints that they have
//! of all CPUs. This is the decision; [`super::zones`] knows the nodes. The figures are kube-controller-manager's.
//!
//! What holds: each ready endpoint is for one zone, and each zone has so many that none of them bears more than a fifth above the
//! average; or there are no hints at all. Hints that are there stay as long as that holds with them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForZone};
use kube::ResourceExt;
use trimtab_client_coordination::events::Note;

use super::slices::Draft;

/// How much more than the average an endpoint may have to bear.
const OVERLOAD: f64 = 0.2;
/// The annotation that asks for hints, and its older name, which counts if both are there.
const MODE: &str = "service.kubernetes.io/topology-mode";
const OLDER_MODE: &str = "service.kubernetes.io/topology-aware-hints";

/// How many endpoints each zone has.
pub(super) type Counts = BTreeMap<String, usize>;

/// What became of the hints of a Service, by families of addresses: how many endpoints each zone has, or why there are none.
pub(super) type Allotted = BTreeMap<&'static str, Result<Counts, String>>;

/// How large a part of all CPUs each zone has. Empty if that is not known, or there are fewer than two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shares(BTreeMap<String, f64>);

/// How many endpoints a zone may have.
struct Aim {
    least: usize,
    most: usize,
    ideal: f64,
}

type Aims = BTreeMap<String, Aim>;

/// Whether hints that are there count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    WithThose,
    Anew,
}

/// Whether a Service asks for hints by what nodes can do.
pub(super) fn are_asked_for(service: &Service) -> bool {
    let annotations = service.annotations();
    let mode = annotations.get(OLDER_MODE).or_else(|| annotations.get(MODE));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// What is told of hints: that there are some now, that there are none any more, and each new reason why there are none.
pub(super) fn news(before: &Allotted, now: &Allotted) -> Vec<Note> {
    let disabled = |family: &str, why: &str| {
        let message = format!("{why}, addressType: {family}");
        Note::warning("TopologyAwareHintsDisabled", "Hint", message)
    };
    let hinted = |allotted: &Allotted| {
        allotted
            .iter()
            .find(|(_, allotted)| allotted.is_ok())
            .map(|(family, _)| *family)
    };
    let mut notes = Vec::new();
    for (family, allotted) in now {
        if let Err(why) = allotted
            && before.get(family) != Some(allotted)
        {
            notes.push(disabled(family, why));
        }
    }
    match (hinted(before), hinted(now)) {
        (None, Some(family)) => {
            let message = format!("Topology Aware Hints has been enabled, addressType: {family}");
            notes.push(Note::normal("TopologyAwareHintsEnabled", "Hint", message));
        }
        (Some(family), None) if now.is_empty() => {
            notes.push(disabled(family, "Topology Aware Hints has been disabled"));
        }
        _ => {}
    }
    notes
}

/// Says of each ready endpoint which zone it is for. If that cannot be done well no endpoint has a hint, and the error says why.
pub(super) fn allot(drafts: &mut [Draft], shares: &Shares) -> Result<Counts, String> {
    let allotted = try_to_allot(drafts, shares);
    if allotted.is_err() {
        let endpoints = drafts.iter_mut().flat_map(|draft| &mut draft.endpoints);
        endpoints.for_each(|endpoint| endpoint.hints = None);
    }
    allotted
}

fn try_to_allot(drafts: &mut [Draft], shares: &Shares) -> Result<Counts, String> {
    let endpoints = drafts.iter().flat_map(|draft| &draft.endpoints);
    let aims = shares.aims(endpoints.filter(|endpoint| is_ready(endpoint)).count())?;
    let counts = spread(drafts, &aims, Start::WithThose)?;
    match short(&aims, &counts) {
        None => Ok(counts),
        Some(_) => spread(drafts, &aims, Start::Anew),
    }
}

/// Gives endpoints to zones: first each to its own, then some to others, until all have about what is ideal.
fn spread(drafts: &mut [Draft], aims: &Aims, start: Start) -> Result<Counts, String> {
    let mut counts = Counts::new();
    let mut open = Vec::new();
    for draft in drafts {
        let stays = draft.untouched && start == Start::WithThose;
        match stays.then(|| kept(&draft.endpoints, &counts, aims)).flatten() {
            Some(kept) => kept
                .into_iter()
                .for_each(|(zone, count)| *counts.entry(zone).or_default() += count),
            None => open.extend(&mut draft.endpoints),
        }
    }
    open.iter_mut().for_each(|endpoint| endpoint.hints = None);
    open.retain(|endpoint| is_ready(endpoint));
    for endpoint in &mut open {
        let own = endpoint.zone.clone().filter(|zone| !zone.is_empty());
        let own = own.ok_or("One or more endpoints do not have a zone specified")?;
        give(endpoint, own.clone());
        *counts.entry(own).or_default() += 1;
    }
    exchange(&mut open, aims, &mut counts);
    mend(&mut open, aims, &mut counts);
    counts.retain(|_, count| *count > 0);
    Ok(counts)
}

/// How many endpoints of a slice that is not touched otherwise each zone has; `None` if they cannot all stay with it.
fn kept(endpoints: &[Endpoint], counts: &Counts, aims: &Aims) -> Option<Counts> {
    let mut kept = Counts::new();
    for endpoint in endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        let zone = zone_for(endpoint)?;
        // One whose zone has no share stays there until another needs it.
        if !aims.contains_key(zone) && endpoint.zone.as_deref() != Some(zone) {
            return None;
        }
        *kept.entry(zone.to_owned()).or_default() += 1;
    }
    let fits = |(zone, count): (&String, &usize)| {
        let before = counts.get(zone).copied().unwrap_or_default();
        aims.get(zone).is_none_or(|aim| before + count <= aim.most)
    };
    kept.iter().all(fits).then_some(kept)
}

/// Moves endpoints from zones that have more than is ideal to those that have less, as long as halves are worth it.
fn exchange(open: &mut [&mut Endpoint], aims: &Aims, counts: &mut Counts) {
    let (mut more, mut less) = (BTreeMap::new(), BTreeMap::new());
    for (zone, aim) in aims {
        let beyond = counts.get(zone).copied().unwrap_or_default() as f64 - aim.ideal;
        if beyond > 0.0 {
            more.insert(zone.as_str(), beyond);
        } else {
            less.insert(zone.as_str(), -beyond);
        }
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    while let (Some((from, spare)), Some((to, missing))) = (greatest(&mut more), greatest(&mut less)) {
        if (*spare < 1.0 && *missing < 1.0) || *spare < 0.5 || *missing < 0.5 {
            break;
        }
        *spare -= 1.0;
        *missing -= 1.0;
        *giving.entry(from).or_insert(0_usize) += 1;
        *receiving.entry(to).or_insert(0_usize) += 1;
    }
    for endpoint in open {
        let from = endpoint.zone.clone().unwrap_or_default();
        let Some(left) = giving.get_mut(from.as_str()).filter(|left| **left > 0) else {
            continue;
        };
        let Some((to, missing)) = receiving.iter_mut().find(|(_, missing)| **missing > 0) else {
            return;
        };
        *left -= 1;
        *missing -= 1;
        move_to(endpoint, (*to).to_owned(), counts);
    }
}

/// The zone that has the most, and how much that is.
fn greatest<'a, 'z>(zones: &'a mut BTreeMap<&'z str, f64>) -> Option<(&'z str, &'a mut f64)> {
    let zones = zones.iter_mut().map(|(zone, much)| (*zone, much));
    zones.max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// Gives to zones that still have too few: where many have a little more than is ideal, and where endpoints are in zones without a
/// share, none has had a half to spare. (kube-controller-manager leaves it at that.)
fn mend(open: &mut [&mut Endpoint], aims: &Aims, counts: &mut Counts) {
    while let Some(zone) = short(aims, counts) {
        let spare = |endpoint: &Endpoint| {
            let zone = zone_for(endpoint).unwrap_or_default();
            let least = aims.get(zone).map_or(0, |aim| aim.least);
            let count = counts.get(zone).copied().unwrap_or_default();
            count.saturating_sub(least)
        };
        let giving = open.iter_mut().max_by_key(|endpoint| spare(endpoint));
        match giving.filter(|endpoint| spare(endpoint) > 0) {
            Some(endpoint) => move_to(endpoint, zone, counts),
            None => return,
        }
    }
}

/// A zone that has fewer endpoints than it must have.
fn short(aims: &Aims, counts: &Counts) -> Option<String> {
    let count = |zone| counts.get(zone).copied().unwrap_or_default();
    let short = aims.iter().find(|(zone, aim)| count(*zone) < aim.least);
    short.map(|(zone, _)| zone.clone())
}

fn move_to(endpoint: &mut Endpoint, zone: String, counts: &mut Counts) {
    if let Some(count) = zone_for(endpoint).and_then(|zone| counts.get_mut(zone)) {
        *count -= 1;
    }
    *counts.entry(zone.clone()).or_default() += 1;
    give(endpoint, zone);
}

fn give(endpoint: &mut Endpoint, zone: String) {
    endpoint.hints = Some(EndpointHints {
        for_zones: Some(vec![ForZone { name: zone }]),
        for_nodes: None,
    });
}

/// The one zone that an endpoint is for, if its hints say that and nothing else.
fn zone_for(endpoint: &Endpoint) -> Option<&str> {
    let hints = endpoint.hints.as_ref()?;
    match hints.for_zones.as_deref()? {
        [one] if hints.for_nodes.as_ref().is_none_or(Vec::is_empty) => Some(&one.name),
        _ => None,
    }
}

/// Whether an endpoint may be asked.
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|conditions| conditions.ready) == Some(true)
}

// === impl Shares ===

impl Shares {
    /// Of thousandths of CPUs.
    pub(super) fn of<'a>(zones: impl Iterator<Item = (&'a String, i128)> + Clone) -> Self {
        let total: i128 = zones.clone().map(|(_, cpus)| cpus).sum();
        let shares: BTreeMap<_, _> = zones
            .map(|(zone, cpus)| (zone.clone(), cpus as f64 / total as f64))
            .collect();
        match shares.len() {
            0 | 1 => Self::default(),
            _ => Self(shares),
        }
    }

    pub(super) fn are_known(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether endpoints would have too much to bear, if so many are for each zone.
    pub(super) fn overload(&self, counts: &Counts) -> bool {
        let total = counts.values().sum::<usize>();
        let is_short = |(zone, share): (&String, &f64)| {
            let count = counts.get(zone).copied().unwrap_or_default();
            count == 0 || count < least(share * total as f64)
        };
        total > 0 && (!self.are_known() || self.0.iter().any(is_short))
    }

    /// How many of so many endpoints each zone may have; why that cannot be, otherwise.
    fn aims(&self, total: usize) -> Result<Aims, String> {
        if !self.are_known() {
            let why =
                "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
            return Err(why.to_owned());
        }
        let counted = format!("({total} endpoints, {} zones)", self.0.len());
        if self.0.len() > total {
            return Err(format!("Insufficient number of endpoints {counted}"));
        }
        let aim = |share: &f64| {
            let ideal = share * total as f64;
            let least = least(ideal);
            Aim {
                least,
                most: least,
                ideal: ideal.max(least as f64),
            }
        };
        let mut aims: Aims = self
            .0
            .iter()
            .map(|(zone, share)| (zone.clone(), aim(share)))
            .collect();
        let least = aims.values().map(|aim| aim.least).sum();
        let Some(left) = total.checked_sub(least) else {
            return Err(format!(
                "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold {counted}"
            ));
        };
        aims.values_mut().for_each(|aim| aim.most += left);
        Ok(aims)
    }
}

/// How many endpoints must be there, where so many would have the average to bear.
fn least(ideal: f64) -> usize {
    (ideal * (1.0 / (1.0 + OVERLOAD))).ceil() as usize
}
