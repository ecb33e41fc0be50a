//! What is wrong with a phase or its action.

use crate::server::refused;

refused! {
    a_phase_with_two_actions {
        wrote: "
phases: [{name: both, observe: {query: q, max: 1, for: 1m}, switch: {service: shop, from: {v: '1'}, to: {v: '2'}}}]",
        heard: "spec.phases[0]: Invalid value: a phase has exactly one action: write a phase for each",
        writes: "
phases: [{name: one, observe: {query: q, max: 1, for: 1m}}, {name: two, switch: {service: shop, from: {v: '1'}, to: {v: '2'}}}]",
    }
    a_phase_without_an_action {
        wrote: "phases: [{name: nothing}]",
        heard: "spec.phases[0]: Invalid value: a phase needs an action: write `sql`, `job`, `replicate`, `backfill`, `verify`, `switch`, `observe` or `bake`, or `approval: Required` for a phase that only waits for a person",
        writes: "phases: [{name: ask, approval: Required}]",
    }
    a_phase_that_waits_for_nobody {
        wrote: "phases: [{name: nothing, approval: NotRequired}]",
        heard: "spec.phases[0]: Invalid value: a phase needs an action: write `sql`, `job`, `replicate`, `backfill`, `verify`, `switch`, `observe` or `bake`, or `approval: Required` for a phase that only waits for a person",
        writes: "phases: [{name: ask, approval: Required}]",
    }
    a_phase_without_a_name {
        wrote: "phases: [{approval: Required}]",
        heard: "spec.phases[0].name: Required value",
        writes: "phases: [{name: ask, approval: Required}]",
    }
    a_phase_name_in_capitals {
        wrote: "phases: [{name: CutOver, approval: Required}]",
        heard: r#"spec.phases[0].name: Invalid value: "CutOver": a name has lower-case letters, digits and `-`, and begins and ends with a letter or digit, such as `cut-over`"#,
        writes: "phases: [{name: cut-over, approval: Required}]",
    }
    a_phase_name_longer_than_a_label {
        wrote: "phases: [{name: a234567890123456789012345678901234567890123456789012345678901234, approval: Required}]",
        heard: "spec.phases[0].name: Too long: may not be more than 63 bytes",
        writes: "phases: [{name: a23456789012345678901234567890123456789012345678901234567890123, approval: Required}]",
    }
    an_action_that_does_not_exist {
        wrote: "phases: [{name: copy, replay: {store: orders, table: customers}}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.phases[0].replay""#,
        writes: "phases: [{name: ask, approval: Required}]",
    }
    an_approval_that_is_a_boolean {
        wrote: "phases: [{name: ask, approval: true}]",
        heard: "spec.phases[0].approval: Invalid value: \"boolean\": spec.phases[0].approval in body must be of type string: \"boolean\"\nspec.phases[0].approval: Unsupported value: true: supported values: \"Required\", \"NotRequired\"",
        writes: "phases: [{name: ask, approval: Required}]",
    }
    retries_of_an_action_that_waits {
        wrote: "phases: [{name: look, retries: 3, observe: {query: q, max: 1, for: 1m}}]",
        heard: "spec.phases[0]: Invalid value: `retries` goes with `sql`, `job`, `backfill` and `verify`, as other actions wait instead of failing: leave it out",
        writes: "phases: [{name: look, observe: {query: q, max: 1, for: 1m}}]",
    }
    more_retries_than_make_sense {
        wrote: "phases: [{name: run, retries: 21, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].retries: Invalid value: 21: spec.phases[0].retries in body should be less than or equal to 20",
        writes: "phases: [{name: run, retries: 20, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_bake_with_a_timeout {
        wrote: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: bake, timeout: 2h, bake: {for: 1h}}",
        heard: "spec.phases[1]: Invalid value: a `bake` has no `timeout`: write its length as `bake.for`",
        writes: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: bake, bake: {for: 2h}}",
    }
    a_bake_of_no_time {
        wrote: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: bake, bake: {for: 0d}}",
        heard: r#"spec.phases[1].bake.for: Invalid value: "0d": a `bake` of no time keeps nothing: write how long to keep the old side, such as `24h`"#,
        writes: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: bake, bake: {for: 3d}}",
    }
    a_timeout_of_no_time {
        wrote: "phases: [{name: look, timeout: 0s, observe: {query: q, max: 1, for: 1m}}]",
        heard: r#"spec.phases[0].timeout: Invalid value: "0s": a `timeout` is at least 1s: write that or more, or leave it out for none"#,
        writes: "phases: [{name: look, timeout: 1h30m, observe: {query: q, max: 1, for: 1m}}]",
    }

    sql_without_a_script {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders}}]",
        heard: "spec.phases[0].sql: Invalid value: `sql` has either `up` (and `down`) or `from` with a ConfigMap, not both and not neither",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}}}]",
    }
    sql_with_both_a_script_and_a_configmap {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, from: {configMap: scripts}}}]",
        heard: "spec.phases[0].sql: Invalid value: `sql` has either `up` (and `down`) or `from` with a ConfigMap, not both and not neither",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, from: {configMap: scripts}}}]",
    }
    a_down_script_beside_a_configmap {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, from: {configMap: scripts}, down: {inline: SELECT 1}}}]",
        heard: "spec.phases[0].sql: Invalid value: `sql.down` goes with `sql.up`: with `from`, put the down scripts into the ConfigMap",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, from: {configMap: scripts}, onRollback: Down}}]",
    }
    a_rollback_by_a_script_that_is_not_there {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, onRollback: Down}}]",
        heard: "spec.phases[0].sql: Invalid value: `onRollback: Down` needs a script to run: write `down`",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, down: {inline: SELECT 2}, onRollback: Down}}]",
    }
    a_script_in_two_places {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1, configMapKey: {name: scripts, key: up.sql}}}}]",
        heard: "spec.phases[0].sql.up: Invalid value: a script is either `inline` or a `configMapKey`, not both and not neither",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {configMapKey: {name: scripts, key: up.sql}}}}]",
    }
    a_down_script_in_no_place {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, down: {}}}]",
        heard: "spec.phases[0].sql.down: Invalid value: a script is either `inline` or a `configMapKey`, not both and not neither",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}}}]",
    }
    an_empty_script {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: ''}}}]",
        heard: r#"spec.phases[0].sql.up.inline: Invalid value: "": spec.phases[0].sql.up.inline in body should be at least 1 chars long"#,
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}}}]",
    }
    a_statement_that_queues_everyone_behind_its_lock {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, lockTimeout: 2m}}]",
        heard: r#"spec.phases[0].sql.lockTimeout: Invalid value: "2m": a `lockTimeout` is between 10ms and 60s: while a statement waits for its lock, all others queue behind it"#,
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, lockTimeout: 60s}}]",
    }
    a_statement_without_any_time {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, statementTimeout: 0s}}]",
        heard: r#"spec.phases[0].sql.statementTimeout: Invalid value: "0s": a `statementTimeout` is at least 10ms: write that or more, or leave it out for none"#,
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}, statementTimeout: 2d}}]",
    }

    a_job_without_a_template {
        wrote: "phases: [{name: run, job: {}}]",
        heard: "spec.phases[0].job.template: Required value",
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_without_containers {
        wrote: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: []}}}}}}]",
        heard: "spec.phases[0].job.template.spec.template.spec.containers: Invalid value: 0: spec.phases[0].job.template.spec.template.spec.containers in body should have at least 1 items",
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_with_a_bare_pod_in_the_place_of_its_template {
        wrote: "phases: [{name: run, job: {template: {containers: [{name: c, image: i}]}}}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.phases[0].job.template.containers""#,
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_whose_pod_always_restarts {
        wrote: "phases: [{name: run, job: {template: {spec: {template: {spec: {restartPolicy: Always, containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.template.spec: Invalid value: the `restartPolicy` of a Job's pod is `Never` or `OnFailure`",
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_that_retries_by_itself {
        wrote: "phases: [{name: run, job: {template: {spec: {backoffLimit: 6, template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.template.spec: Invalid value: the phase retries, not the Job: leave `backoffLimit` out and write `retries` beside `job`",
        writes: "phases: [{name: run, retries: 6, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_that_runs_a_pod_beside_a_dying_one {
        wrote: "phases: [{name: run, job: {template: {spec: {podReplacementPolicy: TerminatingOrFailed, template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.template.spec: Invalid value: two pods of one Job must not run at once: leave `podReplacementPolicy` out, it is `Failed`",
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_that_removes_itself {
        wrote: "phases: [{name: run, job: {template: {spec: {ttlSecondsAfterFinished: 60, template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.template.spec: Invalid value: the Job is removed once its outcome is in status: leave `ttlSecondsAfterFinished` out",
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_that_does_not_begin {
        wrote: "phases: [{name: run, job: {template: {spec: {suspend: true, template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.template.spec: Invalid value: a Job begins with its phase: leave `suspend` out, and write `approval: Required` to wait for a person",
        writes: "phases: [{name: run, approval: Required, job: {template: {spec: {suspend: false, template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    a_job_that_selects_pods_itself {
        wrote: "phases: [{name: run, job: {template: {spec: {manualSelector: true, selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.template.spec: Invalid value: Kubernetes selects a Job's pods by itself: leave `selector` and `manualSelector` out",
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}}}}]",
    }
    an_undo_that_runs_nothing {
        wrote: "
phases: [{name: run, job: {
  template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}},
  undo: {spec: {template: {spec: {containers: []}}}}}}]",
        heard: "spec.phases[0].job.undo.spec.template.spec.containers: Invalid value: 0: spec.phases[0].job.undo.spec.template.spec.containers in body should have at least 1 items",
        writes: "
phases: [{name: run, job: {
  template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}},
  undo: {spec: {template: {spec: {containers: [{name: d, image: i}]}}}}}}]",
    }
    an_undo_that_retries_by_itself {
        wrote: "
phases: [{name: run, job: {
  template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}},
  undo: {spec: {backoffLimit: 1, template: {spec: {containers: [{name: d, image: i}]}}}}}}]",
        heard: "spec.phases[0].job.undo.spec: Invalid value: the phase retries, not the Job: leave `backoffLimit` out and write `retries` beside `job`",
        writes: "
phases: [{name: run, job: {
  template: {spec: {template: {spec: {containers: [{name: c, image: i}]}}}},
  undo: {spec: {backoffLimit: 0, template: {spec: {containers: [{name: d, image: i}]}}}}}}]",
    }
    a_job_with_a_misspelt_field {
        wrote: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i, comand: [x]}]}}}}}}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.phases[0].job.template.spec.template.spec.containers[0].comand""#,
        writes: "phases: [{name: run, job: {template: {spec: {template: {spec: {containers: [{name: c, image: i, command: [x]}]}}}}}}]",
    }

    a_switch_without_a_service {
        wrote: "phases: [{name: cut-over, switch: {from: {version: v1}, to: {version: v2}}}]",
        heard: "spec.phases[0].switch: Invalid value: `switch` has either `service` or a list `services`, not both and not neither",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}]",
    }
    a_switch_with_both_a_service_and_a_list {
        wrote: "phases: [{name: cut-over, switch: {service: shop, services: [cart], from: {version: v1}, to: {version: v2}}}]",
        heard: "spec.phases[0].switch: Invalid value: `switch` has either `service` or a list `services`, not both and not neither",
        writes: "phases: [{name: cut-over, switch: {services: [shop, cart], from: {version: v1}, to: {version: v2}}}]",
    }
    a_switch_that_names_a_service_twice {
        wrote: "phases: [{name: cut-over, switch: {services: [shop, shop], from: {version: v1}, to: {version: v2}}}]",
        heard: r#"spec.phases[0].switch.services[1]: Duplicate value: "shop""#,
        writes: "phases: [{name: cut-over, switch: {services: [shop], from: {version: v1}, to: {version: v2}}}]",
    }
    a_switch_between_different_labels {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {colour: green}}}]",
        heard: "spec.phases[0].switch: Invalid value: `from` and `to` name the same labels: for each label that marks the old side write the new side's value",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {colour: blue}, to: {colour: green}}}]",
    }
    a_switch_to_where_traffic_is {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {app: shop, version: v1}, to: {app: shop, version: v1}}}]",
        heard: "spec.phases[0].switch: Invalid value: `from` and `to` are the same, so nothing would move: write the new side's value into `to`",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {app: shop, version: v1}, to: {app: shop, version: v2}}}]",
    }
    a_switch_by_no_label {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {}, to: {}}}]",
        heard: "spec.phases[0].switch: Invalid value: `from` and `to` are the same, so nothing would move: write the new side's value into `to`",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}]",
    }
    a_switch_to_a_number {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {version: '1'}, to: {version: 2}}}]",
        heard: r#"spec.phases[0].switch.to.version: Invalid value: "integer": spec.phases[0].switch.to.version in body must be of type string: "integer""#,
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {version: '1'}, to: {version: '2'}}}]",
    }
    a_switch_to_what_no_label_can_be {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: 'v2 (new)'}}}]",
        heard: r#"spec.phases[0].switch.to[version]: Invalid value: "v2 (new)": a label's value has letters, digits, `-`, `_` and `.`, such as `v2`"#,
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2-new}}}]",
    }
    a_switch_that_asks_the_old_side_to_grow {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}, keepOld: 101%}}]",
        heard: r#"spec.phases[0].switch.keepOld: Invalid value: "101%": the old side can't have more pods than it had at the flip: write `100%` or less"#,
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}, keepOld: 100%, capacity: 150%}}]",
    }
    a_drain_in_two_ways {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {wait: 1m, hook: {path: /drain, port: 80}}}}]",
        heard: "spec.phases[0].switch.drain: Invalid value: `drain` has one way: write `hook`, `restartPods` or `wait`",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {deadline: 1m, hook: {path: /drain, port: 80}}}}]",
    }
    a_wait_with_a_deadline {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {wait: 1m, deadline: 30s}}}]",
        heard: "spec.phases[0].switch.drain: Invalid value: `drain.wait` ends when its time is over: leave `deadline` out",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {wait: 1m}}}]",
    }
    a_hook_without_a_leading_slash {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {hook: {path: drain, port: 80}}}}]",
        heard: r#"spec.phases[0].switch.drain.hook.path: Invalid value: "drain": a path begins with `/`, such as `/drain`"#,
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {hook: {path: /drain, port: 80}}}}]",
    }
    a_hook_on_a_port_that_does_not_exist {
        wrote: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {hook: {path: /drain, port: 65536}}}}]",
        heard: "spec.phases[0].switch.drain.hook.port: Invalid value: 65536: spec.phases[0].switch.drain.hook.port in body should be less than or equal to 65535",
        writes: "phases: [{name: cut-over, switch: {service: shop, from: {v: '1'}, to: {v: '2'}, drain: {hook: {path: /drain, port: 65535}}}}]",
    }

    an_observation_of_nothing {
        wrote: "phases: [{name: look, observe: {max: 1, for: 1m}}]",
        heard: "spec.phases[0].observe: Invalid value: `observe` has either `ratio` (with `errors` and `total`) or `query`, not both and not neither",
        writes: "phases: [{name: look, observe: {query: q, max: 1, for: 1m}}]",
    }
    an_observation_without_a_bound {
        wrote: "phases: [{name: look, observe: {query: q, for: 1m}}]",
        heard: "spec.phases[0].observe: Invalid value: `observe` needs a bound: write `max` or `min`",
        writes: "phases: [{name: look, observe: {query: q, min: 0, for: 1m}}]",
    }
    an_observation_that_nothing_can_satisfy {
        wrote: "phases: [{name: look, observe: {query: q, min: 1, max: 0, for: 1m}}]",
        heard: "spec.phases[0].observe: Invalid value: `min` is above `max`, so no value could satisfy: write the lower of the two as `min`",
        writes: "phases: [{name: look, observe: {query: q, min: 0, max: 1, for: 1m}}]",
    }
    an_observation_without_a_window {
        wrote: "phases: [{name: look, observe: {query: q, max: 1}}]",
        heard: "spec.phases[0].observe.for: Required value",
        writes: "phases: [{name: look, observe: {query: q, max: 1, for: 10m}}]",
    }
    an_observation_of_a_negative_rate {
        wrote: "phases: [{name: look, observe: {ratio: {errors: e, total: t, minRate: -1}, max: 0.1, for: 1m}}]",
        heard: "spec.phases[0].observe: Invalid value: `ratio.minRate` is a rate: write a number that isn't negative",
        writes: "phases: [{name: look, observe: {ratio: {errors: e, total: t, minRate: 1}, max: 0.1, for: 1m}}]",
    }
    an_observation_made_too_often {
        wrote: "phases: [{name: look, observe: {query: q, max: 1, for: 1m, interval: 1ms}}]",
        heard: r#"spec.phases[0].observe.interval: Invalid value: "1ms": Prometheus has no new sample sooner than every 200ms: write `interval: 200ms` or more"#,
        writes: "phases: [{name: look, observe: {query: q, max: 1, for: 1m, interval: 1s}}]",
    }
    an_observation_for_which_no_sample_is_new_enough {
        wrote: "phases: [{name: look, observe: {query: q, max: 1, for: 1m, maxAge: 1ms}}]",
        heard: r#"spec.phases[0].observe.maxAge: Invalid value: "1ms": no sample is newer than that: write `maxAge: 1s` or more"#,
        writes: "phases: [{name: look, observe: {query: q, max: 1, for: 1m, maxAge: 1s}}]",
    }
    a_query_longer_than_its_bound {
        wrote: concat!("phases: [{name: look, observe: {query: ", include_str!("query-of-2049.txt"), ", max: 1, for: 1m}}]"),
        heard: "spec.phases[0].observe.query: Too long: may not be more than 2048 bytes",
        writes: "phases: [{name: look, observe: {query: q, max: 1, for: 1m}}]",
    }
}
