//! The way on: from any state, once nothing more goes wrong and people do what they are told, a run comes to its end.

use alongside::{
    api::State as Life,
    engine::world::{Lifecycle, Verbs},
};

use crate::{
    cluster::{Service, labels},
    kept::{Kept, hash_of},
    people,
    sim::Sim,
    state::{Mood, Operator, State},
};

/// Most steps that a run without further faults needs to its end.
const STEPS: usize = 150;

impl Sim {
    /// Whether a run can come to its end from here: the leader starts afresh, what was on its way is lost, the numbers
    /// are good, both sides serve, and people follow what the message says.
    pub fn can_end(&self, state: &State) -> bool {
        let here = hash_of(&(&state.server, state.operators[0].leads));
        if self.healed.read().expect("no thread has panicked").contains(&here) {
            return true;
        }
        let ends = self.comes_to_an_end(state);
        if ends {
            self.healed.write().expect("no thread has panicked").insert(here);
        }
        ends
    }

    fn comes_to_an_end(&self, state: &State) -> bool {
        let mut state = state.clone();
        for operator in &mut state.operators {
            *operator = Operator { leads: operator.leads, ..Operator::default() };
        }
        state.server.mood = Mood::Pass;
        let names: Vec<String> = state.server.services.keys().cloned().collect();
        for name in &names {
            state.server.edit_service(name, |service| (service.from_serving, service.to_serving) = (3, 3));
        }
        let mut path = Vec::new();
        for _ in 0..STEPS {
            let server = &state.server;
            let status = &server.object.status;
            let leaving = server.object.lifecycle != Lifecycle::Alive;
            let key = hash_of(&(&server.object, &server.services, &server.jobs, &server.rest, server.clock));
            let ended = match status.state {
                Life::Succeeded | Life::RolledBack => true,
                _ => leaving && !server.object.finalizer,
            };
            if ended || self.healed.read().expect("no thread has panicked").contains(&key) {
                self.healed.write().expect("no thread has panicked").extend(path);
                return true;
            }
            path.push(key);
            let Some(mut next) = self.smoothly(&state) else { return false };
            Self::follow_advice(&mut next);
            state = next;
        }
        false
    }

    /// What a person does who reads the message.
    fn follow_advice(next: &mut State) {
        let status = next.server.object.status.clone();
        let Some(hold) = &status.hold else { return };
        let verbs = (*next.server.object.verbs).clone();
        match hold.reason.as_str() {
            "Approval" => people::approve(next),
            "Paused" => next.server.object.verbs = Kept::new(Verbs { pause: None, ..verbs }),
            "NoWayBack" => next.server.object.verbs = Kept::new(Verbs { abort: None, rollback: None, ..verbs }),
            "UndoFailed" | "FailedForGood" => people::retry(next),
            "ForeignSelector" => {
                for traffic in &status.traffic {
                    next.server.edit_service(&traffic.service, |service| service.selector.extend(traffic.from.clone()));
                }
            }
            "ForeignMark" => {
                let plan = status.plan.as_ref().expect("marks are written under a plan");
                let bound = alongside::engine::verb::binding("*", &plan.hash, status.attempt);
                next.server.object.verbs = Kept::new(Verbs { abort: Some(bound), ..verbs });
            }
            "ServiceAbsent" => {
                let mut services = (*next.server.services).clone();
                for traffic in &status.traffic {
                    services.entry(traffic.service.clone()).or_insert_with(|| Service {
                        uid: "made-anew".to_owned(),
                        selector: labels(&[("app", "warehouse"), ("version", "v1")]),
                        mark: None,
                        scribble: None,
                        from: labels(&[("version", "v1")]),
                        to: labels(&[("version", "v2")]),
                        from_serving: 3,
                        to_serving: 3,
                        slices_follow: true,
                    });
                }
                next.server.services = Kept::new(services);
            }
            _ => {}
        }
    }
}
