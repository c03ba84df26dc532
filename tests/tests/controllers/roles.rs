//! Each program needs to be allowed what its manager's rules say: with the Role that is made of them nothing is refused, and
//! without a part of it something is.

use std::time::Duration;

use kube::Client;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use trimtab::client::leader::ElectionConfig;
use trimtab::controller::Manager;
use trimtab::controller::rbac::Rules;
use trimtab::testing::TestEnv;

use crate::kit::ledger::Ledger;
use crate::kit::scenario::Scenario;
use crate::kit::state::{self, State};
use crate::kit::transport;

/// As whom the programs run.
const USER: &str = "system:serviceaccount:default:program";
/// How long people wait between what they do, and at the end.
const SOON: Duration = Duration::from_secs(2);

macro_rules! programs {
    ($($program:ident without $unmissed:expr),*) => { $(
        mod $program {
            use super::{missed, sufficient};
            use crate::$program::Scenario;

            #[tokio::test(start_paused = true)]
            async fn does_all_with_its_own_role() {
                sufficient::<Scenario>().await;
            }

            #[tokio::test(start_paused = true)]
            async fn misses_what_is_not_declared() {
                missed::<Scenario>(&$unmissed).await;
            }
        }
    )* };
}

// What nobody misses here: owners block nobody's deletion unless a server is told to ask for that permission, and who records
// no events may not need to.
programs!(
    database without ["databases/finalizers"],
    policy without ["events"],
    bucket without ["events"],
    website without ["websites/finalizers"]
);

/// A world with a program that runs as a user.
struct World<S> {
    scenario: S,
    env: TestEnv,
    ledger: Ledger,
}

impl<S: Scenario> World<S> {
    async fn new() -> Self {
        let scenario = S::default();
        let mut env = TestEnv::start().await.expect("it starts");
        scenario.prepare(&mut env).await.expect("it is prepared");
        Self {
            scenario,
            env,
            ledger: Ledger::default(),
        }
    }

    /// The program, as one of several replicas.
    fn manager(&self, client: Client) -> Manager {
        let manager = self.scenario.manager(client).expect("a good description");
        manager.elected(ElectionConfig::new("program"))
    }

    fn rules(&self) -> Rules {
        self.manager(self.env.client()).rules()
    }

    /// Lets the user do what the rules say.
    async fn allow(&self, rules: &Rules) {
        let role = rules.cluster_role("program");
        self.env
            .allow(USER, role)
            .await
            .expect("a role as the server likes it");
    }

    /// Runs the program, while people do what the scenario says. Returns what there is in the end.
    async fn run(&self, client: Client) -> State {
        let stop = CancellationToken::new();
        let client = transport::client(self.ledger.of(USER).layer(transport::of(client)));
        let manager = self.manager(client);
        let people = async {
            for act in self.scenario.script() {
                sleep(SOON).await;
                act.perform(&self.env.client()).await;
            }
            sleep(SOON * 60).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(manager.run(stop.clone()), people);
        ended.expect("a clean end");
        state::of(&self.env.client(), &self.scenario.kinds())
            .await
            .expect("the server answers")
    }
}

/// With its own Role nothing is refused, and all is as it is for a program that may do everything.
async fn sufficient<S: Scenario>() {
    let all = World::<S>::new().await;
    let expected = all.run(all.env.client()).await;
    let world = World::<S>::new().await;
    world.allow(&world.rules()).await;
    let is = world.run(world.env.client_as(USER)).await;
    assert_eq!(world.ledger.refusals(), [] as [&str; 0]);
    let differences = state::difference(&expected, &is);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Without a rule the server refuses something, in words that lead to the rule. The resources in `unmissed` are those of
/// the rules without which nothing is refused.
async fn missed<S: Scenario>(unmissed: &[&str]) {
    let rules = World::<S>::new().await.rules();
    let mut not_missed = Vec::new();
    for without in rules.iter() {
        let world = World::<S>::new().await;
        let mut fewer = Rules::default();
        fewer.extend(rules.iter().filter(|rule| *rule != without).cloned());
        world.allow(&fewer).await;
        tokio::select! {
            biased;
            () = world.ledger.refused() => {
                let (resource, _) = without.resource.split_once('/').unwrap_or((&without.resource, ""));
                let refusals = world.ledger.refusals().join("\n");
                assert!(refusals.contains(resource), "without {resource}: {refusals}");
            }
            _ = world.run(world.env.client_as(USER)) => not_missed.push(without.resource.as_str()),
        }
    }
    assert_eq!(not_missed, unmissed);
}
