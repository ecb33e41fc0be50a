//! Migrations that are synced from Git by Argo CD.

use alongside::api::State;
use serde_json::json;

use crate::{
    home::Home,
    journey::{Journey, told},
    phases::{approval, bake, cut_over, guard, guarded, long, phases, prepare},
    shop::{MIGRATION, Shop, Ways, any_phase_of},
    story::{Story, stories},
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    let mut stories = stories![
        a_sync_waits_for_a_migration_shows_how_far_it_is_and_goes_on_once_it_is_approved_by_action,
        pause_resume_abort_and_retry_are_actions_too,
        a_flip_that_git_contradicts_is_put_back_and_taken_for_a_rollback,
        a_bake_that_until_allows_holds_no_sync_open_and_a_second_commit_raises_it,
        a_migration_pruned_while_it_bakes_takes_traffic_back_and_leaves_nothing,
        a_migration_pruned_while_its_job_works_is_taken_back_and_leaves_nothing,
        a_rollback_stays_degraded_until_a_new_commit,
        a_migration_that_was_rolled_back_gives_way_to_another_that_a_commit_puts_in_its_place,
        the_operators_own_chart_is_an_application_that_comes_to_rest,
        kubectl_wait_reads_the_same_as_argo_cd,
    ];
    for (ways, words) in [
        (Ways::WithoutTheLabel, "whose_label_is_not_in_git"),
        (Ways::Ignored, "whose_fields_are_ignored"),
        (Ways::IgnoredServerSide, "whose_fields_are_ignored_under_server_side_apply"),
    ] {
        let sentence = format!("self_heal_leaves_a_flip_and_its_way_back_alone_of_a_service_{words}");
        stories.push(Story::new(&sentence, move |home| left_alone(ways, home)));
    }
    stories
}

async fn a_sync_waits_for_a_migration_shows_how_far_it_is_and_goes_on_once_it_is_approved_by_action(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    let spec = phases([long(&home), approval(), cut_over("web")]);
    shop.repository
        .commits("Migrate", [("migration", Shop::migration(&spec)), ("after", Shop::of_a_later_wave("after"))]);
    shop.is_looked_at_again().await;
    shop.fares("Progressing", "0/3 phases: phase long runs its Job").await;
    assert_eq!(shop.sync().await.0, "Running", "the later wave waits");
    home.opens("long");
    shop.is_seen_to_be("Suspended").await;
    shop.fares("Suspended", "1/3 phases: phase wait-for-a-person waits for approval").await;
    shop.is("suspended", |status| status["health"]["status"] == "Suspended").await;
    assert!(!shop.has("after").await);

    shop.acts("approve").await;
    shop.fares("Healthy", "every phase is done").await;
    shop.is("synced", |status| status["operationState"]["phase"] == "Succeeded").await;
    assert!(shop.has("after").await);
    shop.is_left_alone_on("v2").await;
    let status = Journey::of(&home, MIGRATION).status().await;
    let approved = status.history.iter().find(|entry| entry.what == "Approved").expect("it was approved");
    assert_eq!(approved.by, "system:serviceaccount:argocd:argocd-server");
}

async fn pause_resume_abort_and_retry_are_actions_too(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    shop.repository
        .commits("Migrate", [("migration", Shop::migration(&phases([long(&home), cut_over("web"), bake("1h")])))]);
    shop.is_looked_at_again().await;
    shop.fares("Progressing", "phase long runs its Job").await;
    shop.acts("pause").await;
    home.opens("long");
    shop.fares("Suspended", "paused by annotation").await;
    let refused = shop.tries_to_act("approve").await;
    assert!(!refused.success, "nothing waits for an approval: {}", refused.stdout);
    shop.acts("resume").await;
    shop.fares("Progressing", "phase bake keeps the old side").await;
    shop.is_left_alone_on("v2").await;
    shop.acts("abort").await;
    shop.fares("Degraded", "rolled back: asked for by abort").await;
    shop.is_left_alone_on("v1").await;
    shop.acts("retry").await;
    shop.fares("Progressing", "phase bake keeps the old side").await;
    assert_eq!(Journey::of(&home, MIGRATION).status().await.attempt, 2);
    shop.acts("rollback").await;
    shop.fares("Degraded", "rolled back: asked for by rollback").await;
}

async fn left_alone(ways: Ways, home: Home) {
    let shop = Shop::opens(&home, ways).await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let spec = guarded([guard(&home, "trouble")], [prepare(&home), cut_over("web"), bake("1h")]);
    shop.repository.commits("Migrate", [("migration", Shop::migration(&spec))]);
    shop.is_looked_at_again().await;
    shop.fares("Progressing", "2/3 phases: phase bake keeps the old side").await;
    shop.serves("v2").await;
    shop.is_left_alone_on("v2").await;
    let commit = shop.repository.commits("Change something else", [("service", shop.service_in_git_with("one"))]);
    shop.is_synced_to(&commit).await;
    shop.is_left_alone_on("v2").await;

    home.figure_is("trouble", 0.9).await;
    shop.fares("Degraded", "rolled back: guard trouble is breached").await;
    shop.is_left_alone_on("v1").await;
    let commit = shop.repository.commits("Change something else", [("service", shop.service_in_git_with("two"))]);
    shop.is_synced_to(&commit).await;
    shop.is_left_alone_on("v1").await;
    let status = Journey::of(&home, MIGRATION).status().await;
    assert_eq!((told(&status, "RollingBack"), home.times("undo-prepare")), (1, 1));
}

async fn a_flip_that_git_contradicts_is_put_back_and_taken_for_a_rollback(home: Home) {
    let shop = Shop::opens(&home, Ways::WithTheLabel).await;
    let _operator = home.leader("a").await;
    shop.repository.commits("Migrate", [("migration", Shop::migration(&phases([cut_over("web"), bake("1h")])))]);
    shop.is_looked_at_again().await;
    shop.fares("Degraded", "someone else moved the traffic of Service web back").await;
    shop.is_left_alone_on("v1").await;
}

async fn a_bake_that_until_allows_holds_no_sync_open_and_a_second_commit_raises_it(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    let mut spec = phases([prepare(&home), cut_over("web"), bake("1h"), long(&home)]);
    spec["until"] = json!("prepare");
    shop.repository
        .commits("Prepare", [("migration", Shop::migration(&spec)), ("after", Shop::of_a_later_wave("after"))]);
    shop.is_looked_at_again().await;
    shop.fares("Healthy", "1/4 phases: phase prepare is done, and spec.until says to go no further").await;
    shop.is("synced", |status| status["operationState"]["phase"] == "Succeeded").await;
    assert!(shop.has("after").await, "the later wave has come");
    shop.is_left_alone_on("v1").await;

    spec["until"] = json!("bake");
    let commit = shop.repository.commits("Move traffic, and bake", [("migration", Shop::migration(&spec))]);
    shop.is_synced_to(&commit).await;
    shop.fares("Healthy", "2/4 phases: phase bake keeps the old side").await;
    shop.is("synced while it bakes", |status| {
        status["operationState"]["phase"] == "Succeeded"
            && status["operationState"]["syncResult"]["revision"] == *commit
    })
    .await;
    shop.is_left_alone_on("v2").await;
    assert_eq!(home.times("prepare"), 1);
}

async fn a_migration_pruned_while_it_bakes_takes_traffic_back_and_leaves_nothing(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    shop.repository
        .commits("Migrate", [("migration", Shop::migration(&phases([prepare(&home), cut_over("web"), bake("1h")])))]);
    shop.is_looked_at_again().await;
    shop.fares("Progressing", "phase bake keeps the old side").await;
    pruned(&shop, &home).await;
    assert_eq!((home.times("prepare"), home.times("undo-prepare")), (1, 1));
}

async fn a_migration_pruned_while_its_job_works_is_taken_back_and_leaves_nothing(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    shop.repository
        .commits("Migrate", [("migration", Shop::migration(&phases([prepare(&home), long(&home), cut_over("web")])))]);
    shop.is_looked_at_again().await;
    home.hears_of("long").await;
    pruned(&shop, &home).await;
    assert_eq!((home.times("undo-prepare"), home.times("long")), (1, 1));
}

async fn pruned(shop: &Shop, home: &Home) {
    let migration = Journey::of(home, MIGRATION);
    let commit = shop.repository.removes("migration");
    shop.is_looked_at_again().await;
    migration.is_gone().await;
    shop.is_synced_to(&commit).await;
    shop.is_healthy().await;
    shop.is_left_alone_on("v1").await;
    crate::no_child_is_left(home).await;
}

async fn a_rollback_stays_degraded_until_a_new_commit(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let mut spec = guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")]);
    spec["until"] = json!("bake");
    shop.repository.commits("Migrate", [("migration", Shop::migration(&spec))]);
    shop.is_looked_at_again().await;
    shop.fares("Healthy", "phase bake keeps the old side").await;
    home.figure_is("trouble", 0.9).await;
    shop.is_seen_to_be("Degraded").await;
    shop.fares("Degraded", "rolled back: guard trouble is breached").await;
    home.figure_is("trouble", 0.1).await;
    shop.is_left_alone_on("v1").await;
    shop.is("degraded", |status| status["health"]["status"] == "Degraded").await;

    // One commit mends the new side and asks for another attempt.
    let status = Journey::of(&home, MIGRATION).status().await;
    let retry = json!({ "alongside.dev/retry": any_phase_of(&status) });
    shop.repository.commits(
        "Mend it and try again",
        [("migration", Shop::migration_with(&spec, &retry)), ("v2", Shop::mended_side("v2"))],
    );
    shop.is_looked_at_again().await;
    shop.fares("Healthy", "phase bake keeps the old side").await;
    shop.is_left_alone_on("v2").await;
    assert_eq!(Journey::of(&home, MIGRATION).status().await.attempt, 2);
}

async fn a_migration_that_was_rolled_back_gives_way_to_another_that_a_commit_puts_in_its_place(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    shop.repository.commits("Migrate", [("migration", Shop::migration(&phases([cut_over("web"), bake("1h")])))]);
    shop.is_looked_at_again().await;
    shop.fares("Progressing", "phase bake keeps the old side").await;
    shop.acts("abort").await;
    shop.fares("Degraded", "rolled back").await;

    let mut second = Shop::migration(&phases([prepare(&home), cut_over("web")]));
    second["metadata"]["name"] = json!("to-v2-again");
    let commit = shop.repository.commits("Another way", [("migration", second)]);
    shop.is_synced_to(&commit).await;
    Journey::of(&home, MIGRATION).is_gone().await;
    Journey::of(&home, "to-v2-again").comes_to(State::Succeeded).await;
    shop.fares("Healthy", "every phase is done").await;
    shop.is_left_alone_on("v2").await;
}

async fn the_operators_own_chart_is_an_application_that_comes_to_rest(home: Home) {
    let shop = Shop::opens_for_the_chart(&home).await;
    shop.is("synced and healthy", |status| {
        status["sync"]["status"] == "Synced" && status["health"]["status"] == "Healthy"
    })
    .await;
    let before = shop.sync().await;
    shop.is_looked_at_again().await;
    let status = shop.status().await;
    assert_eq!(status["sync"]["status"], "Synced", "each rendering is the same: {status}");
    assert_eq!(shop.sync().await, before);
}

async fn kubectl_wait_reads_the_same_as_argo_cd(home: Home) {
    let shop = Shop::opens(&home, Ways::Ignored).await;
    let _operator = home.leader("a").await;
    let mut spec = phases([prepare(&home), cut_over("web")]);
    spec["until"] = json!("prepare");
    shop.repository.commits("Migrate", [("migration", Shop::migration(&spec))]);
    shop.is_looked_at_again().await;
    shop.fares("Healthy", "spec.until says to go no further").await;
    let waits = |condition: &str| {
        let (condition, name) = (format!("--for=condition={condition}"), format!("migration/{MIGRATION}"));
        let args = ["wait", &condition, &name, "--namespace", home.name(), "--timeout=60s"];
        let said = home.stage().cluster().say("kubectl", &args, "");
        assert!(said.success, "{condition}: {}", said.stderr);
    };
    waits("Ready");
    waits("Reconciling=False");
    waits("Stalled=False");
    shop.acts("abort").await;
    shop.fares("Degraded", "rolled back").await;
    waits("Stalled");
    waits("Ready=False");
}
