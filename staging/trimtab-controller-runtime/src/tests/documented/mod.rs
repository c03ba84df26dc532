//! What controller-runtime documents of its controllers and managers, and where this framework shows the same.
//!
//! | controller-runtime says | shown by |
//! |---|---|
//! | **what leads to requests** | |
//! | a request says what to look at, not what happened; several events before its turn are one | `documented::requests::what_happens_in_a_turn_leads_to_one_more` |
//! | an object that is gone has a turn in which it is not found | `turns::each_thing_is_asked_once` |
//! | the controller among an object's owners is told of it, by group and kind whatever the version | `documented::requests::owners_are_told_by_group_and_kind_if_they_are_controllers` |
//! | an update is mapped from the old object and from the new one | `documented::requests::an_owner_that_loses_an_object_hears_of_it`, `managers::keys_come_from_watched_kinds_from_outside_and_from_time` |
//! | an owner without a namespace is looked for in none | `documented::requests::an_owner_in_no_namespace_is_told_by_its_name` |
//! | predicates drop what leads to requests, not what caches have | `documented::requests::a_predicate_drops_a_look_and_not_a_change`, `sources::predicates_say_which_changes_matter` |
//! | a source of any kind, from a channel | `sources::streams_and_timers_trigger_and_say_what_ails_them` |
//! | watches are added while the controller runs | `sources::sources_come_and_go_while_the_controller_runs` |
//! | every object has a turn every ten hours, a tenth sooner or later | `managers::keys_come_from_watched_kinds_from_outside_and_from_time` |
//! | **which request is next** | |
//! | what was there at the start goes after what changes | `sources::what_is_listed_waits_for_what_is_changed` |
//! | so does what comes from a resync | `documented::requests::a_resync_is_urgent_for_nobody` |
//! | a request keeps its priority when it comes back | `documented::requests::a_key_that_comes_back_is_as_urgent_as_before` |
//! | merged requests take the higher priority and the earlier time | the work queue's `a_delayed_key_takes_the_higher_priority_and_keeps_its_time` |
//! | **turns** | |
//! | one at a time unless more are asked for, and never two for one request | `documented::turns::turns_are_had_one_at_a_time_unless_more_are_asked_for` |
//! | an error brings the request back after a backoff of 5 ms, doubled up to 1000 s | `documented::turns::a_failure_waits_for_5_ms_doubled_up_to_1000_s` |
//! | a terminal error does not, and is counted | `documented::turns::a_terminal_failure_is_counted_apart`, `turns::a_terminal_failure_waits_for_a_change` |
//! | a request for a later look forgets failures | `documented::turns::a_later_look_forgets_failures` |
//! | … and a change does not wait for it | `documented::turns::a_change_comes_before_a_later_look` |
//! | a request to come again waits for a backoff | `sources::again_backs_off_without_an_error` |
//! | a panic is an error, and is counted | `clauses::a_bad_key_stops_no_other` |
//! | a turn has a deadline, and what exceeds it is counted | `sources::a_turn_that_takes_too_long_fails_and_tells_what_it_saw` |
//! | **managers** | |
//! | controllers begin when their caches are filled | `managers::a_missing_kind_delays_only_those_who_need_it` |
//! | a kind that is not there yet is waited for, and a deadline ends that | `managers::a_missing_kind_delays_only_those_who_need_it`, `managers::a_deadline_for_the_first_lists_says_what_is_missing` |
//! | two controllers do not have the same name | `managers::a_missing_kind_delays_only_those_who_need_it` |
//! | servers start first and stop last; what fails ends the rest | `leading::parts_start_in_their_order_and_stop_against_it`, `leading::what_fails_is_named_and_ends_the_rest` |
//! | turns that are under way at the stop have 30 seconds | `clauses::a_bad_key_stops_no_other` |
//! | events of the last turns are written before the end | `documented::managers::what_the_last_turns_tell_is_written` |
//! | caches and queues are warm before the election is won | `leading::one_replica_works_and_the_other_takes_over_with_warm_caches` |
//! | who stops gives the Lease back, and another one leads at once | `leading::one_replica_works_and_the_other_takes_over_with_warm_caches` |
//! | who needs no leader works on every replica | `documented::managers::who_needs_no_leader_works_on_every_replica` |
//! | figures begin at 0 | `documented::managers::figures_begin_at_nothing` |
//! | health is told with `verbose` and `exclude` | `serving::tests::health::answers_read_as_kubernetes_writes_them` |
//! | certificates are read again when they change | `serving::tests::certificates::files_are_looked_at_and_bad_ones_change_nothing` |
//! | **helpers** | |
//! | what is as it is wished to be is not written | `turns::each_thing_is_asked_once` |
//! | an object has one controller, in reach of the garbage collector | `turns::what_must_not_be_is_refused_with_a_reason` |
//! | a condition's time is that of its last transition | `turns::a_status_is_told_though_the_turn_fails_and_unknown_fields_stay` |
//!
//! What differs on purpose:
//!
//! | controller-runtime | here | shown by |
//! |---|---|---|
//! | a lost election ends the process | the work ends, and may begin again | `leading::who_loses_the_leadership_stops_its_work_and_may_lead_again` |
//! | each failed turn counts, also one that an event brought early | one that came before its backoff was over does not | `clauses::triggers_do_not_lengthen_a_backoff` |
//! | caches that do not fill within two minutes end the manager | they are waited for, unless a deadline is asked for | `managers::a_missing_kind_delays_only_those_who_need_it` |
//! | a conflict is an error | it is no error, and the request comes back | `turns::a_conflict_costs_an_attempt_and_nothing_else` |
//! | a turn may begin from caches that have not seen the last one's writes | it waits for them | `clauses::the_fixed_point_depends_on_wishes_alone` |
//! | controllers are added while the manager runs | they are added before | `managers::a_missing_kind_delays_only_those_who_need_it` |
//! | low priorities wait as long as there are higher ones | they get a share of the turns when they are overdue | the work queue's `overdue_keys_get_every_fourth_turn_and_no_more` |
//!
//! What is not offered: owners that are no controllers (`MatchEveryOwner`; a watch with a function does it), predicates for all
//! sources at once (`WithEventFilter`), and a turn that chooses the priority of its next one (`Result.Priority`).

mod managers;
mod requests;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_coordination::events::Note;

use super::server::Server;
use super::widgets::{Widget, manager};
use crate::{Controller, ControllerBuilder, Error, Manager, Next, Reconcile, Result, Turn};

pub(super) const SOON: Duration = Duration::from_millis(100);
/// How long a turn takes that is slow.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// When a widget is looked at later.
pub(super) const LATER: Duration = Duration::from_secs(10);

/// Does as a widget's text says, and keeps a diary.
#[derive(Clone, Default)]
pub(super) struct Told(pub(super) Arc<Mutex<Vec<Had>>>);

/// A turn.
#[derive(Clone, Debug)]
pub(super) struct Had {
    key: ObjectKey,
    attempt: u32,
    begun: Instant,
    ended: Option<Instant>,
}

impl Reconcile<Widget> for Told {
    async fn reconcile(&self, turn: &mut Turn<Widget>) -> Result<Next> {
        let number = {
            let mut had = self.0.lock();
            had.push(Had {
                key: turn.key().clone(),
                attempt: turn.attempt(),
                begun: Instant::now(),
                ended: None,
            });
            had.len() - 1
        };
        let widget = turn.latest();
        let text = widget.as_ref().map_or("gone", |widget| &*widget.spec.text);
        let result = match text {
            "fail" => Err(Error::other("asked for")),
            "terminal" => Err(Error::terminal("asked for")),
            "later" => Ok(Next::After(LATER)),
            "slow" => {
                sleep(SLOW).await;
                turn.event(Note::normal("Slow", "Wait", "It has waited."));
                Ok(Next::Done)
            }
            _ => Ok(Next::Done),
        };
        self.0.lock()[number].ended = Some(Instant::now());
        result
    }
}

impl Told {
    /// The turns of this widget.
    fn of(&self, name: &str) -> Vec<Had> {
        self.0
            .lock()
            .iter()
            .filter(|had| had.key.name == name)
            .cloned()
            .collect()
    }

    /// The last turn of this widget.
    fn last(&self, name: &str) -> Had {
        self.of(name).pop().expect("a turn")
    }
}

/// Runs a manager until the test has ended.
pub(super) async fn during(manager: &Manager, test: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let (ended, ()) = tokio::join!(manager.run(stop.clone()), async {
        test.await;
        stop.cancel();
    });
    ended.expect("a clean end");
}

/// Runs a controller of widgets until the test has ended.
pub(super) async fn told(
    server: &Server,
    describe: impl FnOnce(ControllerBuilder<'_, Widget, Told>) -> ControllerBuilder<'_, Widget, Told>,
    test: impl AsyncFnOnce(&Told, &Controller<ObjectKey>),
) {
    let (manager, told) = (manager(server), Told::default());
    let controller = describe(manager.controller(told.clone())).start();
    let controller = controller.expect("a good description");
    during(&manager, test(&told, &controller)).await;
}

/// Whoever renames a test is led to the table.
#[test]
fn the_table_names_tests_that_exist() {
    let files = [
        ("clauses", include_str!("../clauses.rs")),
        ("documented::managers", include_str!("managers.rs")),
        ("documented::requests", include_str!("requests.rs")),
        ("documented::turns", include_str!("turns.rs")),
        ("leading", include_str!("../leading.rs")),
        ("managers", include_str!("../managers.rs")),
        ("sources", include_str!("../sources.rs")),
        ("turns", include_str!("../turns.rs")),
        (
            "serving::tests::certificates",
            include_str!("../../serving/tests/certificates.rs"),
        ),
        (
            "serving::tests::health",
            include_str!("../../serving/tests/health.rs"),
        ),
    ];
    let table = include_str!("mod.rs")
        .lines()
        .take_while(|line| line.starts_with("//!"));
    let named = table.flat_map(|line| line.split('`').skip(1).step_by(2));
    for name in named {
        let Some((module, test)) = name.rsplit_once("::") else {
            continue;
        };
        let (_, text) = files.iter().find(|(known, _)| *known == module).expect(name);
        assert!(text.contains(&format!("fn {test}(")), "there is no {name}");
    }
}
