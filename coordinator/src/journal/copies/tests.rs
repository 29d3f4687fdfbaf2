//! Hosts that answer after a while of virtual time, or never, and note what they were told.

use std::sync::Mutex;

use tokio::time::Instant;

use super::*;

/// How a host takes what it is told.
#[derive(Clone)]
enum Manner {
    Keeps(Duration),
    Refuses(Duration, FaultKind),
    Silent,
}

#[derive(Default)]
struct Hosts {
    manners: Mutex<Vec<(HostName, Manner)>>,
    told: Mutex<Vec<(String, usize, String)>>,
}

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn run() -> RunId {
    RunId::new("fo-1").unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Hosts {
    fn of(manners: &[(&str, Manner)]) -> Arc<Hosts> {
        let manners = manners.iter().map(|(name, manner)| (host(name), manner.clone())).collect();
        Arc::new(Hosts { manners: Mutex::new(manners), told: Mutex::default() })
    }

    fn is(&self, name: &str, manner: Manner) {
        let mut manners = self.manners.lock().unwrap();
        manners.iter_mut().find(|(host, _)| host.as_str() == name).unwrap().1 = manner;
    }

    /// Copies that no order brings anything to.
    fn copies(self: &Arc<Self>) -> Copies<'static> {
        let (copies, carried) = self.carried();
        copies.copies.iter().for_each(|copy| carried.rule_out(&copy.host));
        copies
    }

    fn carried(self: &Arc<Self>) -> (Copies<'static>, &'static Carried) {
        let hosts = Arc::clone(self);
        let names: Vec<_> = self.manners.lock().unwrap().iter().map(|(host, _)| host.clone()).collect();
        let carried: &Carried = Box::leak(Box::default());
        let copies = Copies::new(names, (run(), carried), move |host, from, text| {
            let hosts = Arc::clone(&hosts);
            Box::pin(async move {
                let manner = hosts.manners.lock().unwrap().iter().find(|(name, _)| *name == host).unwrap().1.clone();
                match manner {
                    Manner::Keeps(after) => sleep(after).await,
                    Manner::Refuses(after, kind) => {
                        sleep(after).await;
                        return Err(Fault::new(kind, format!("{host} says no")));
                    }
                    Manner::Silent => std::future::pending().await,
                }
                hosts.told.lock().unwrap().push((host.to_string(), from, text[from..].to_owned()));
                Ok(())
            })
        });
        (copies, carried)
    }

    /// What a host keeps, if each telling went on where the one before had ended.
    fn keeps(&self, name: &str) -> String {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(host, ..)| host == name).fold(String::new(), |mut kept, (_, from, rest)| {
            assert_eq!(kept.len(), *from, "what {name} was told does not go on where it was");
            kept += rest;
            kept
        })
    }
}

fn these(names: &[&str]) -> Vec<HostName> {
    names.iter().map(|name| host(name)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_act_waits_for_the_hosts_that_it_acts_on_and_the_others_are_told_meanwhile() {
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(1))), ("c", Manner::Keeps(ms(40)))]);
    let mut copies = hosts.copies();
    let began = Instant::now();
    copies.bring_up_to(&"one".into(), Wanted::These(&these(&["b"]))).await.unwrap();
    assert_eq!((began.elapsed(), hosts.keeps("b"), hosts.keeps("c")), (ms(1), "one".into(), String::new()));
    timeout(ms(100), copies.spread()).await.unwrap_err();
    assert_eq!(hosts.keeps("c"), "one");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_lags_gets_all_that_it_missed_in_one_telling() {
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(1))), ("c", Manner::Keeps(ms(40)))]);
    let mut copies = hosts.copies();
    for text in ["one", "one two", "one two three"] {
        copies.bring_up_to(&text.into(), Wanted::These(&these(&["b"]))).await.unwrap();
    }
    copies.bring_up_to(&"one two three four".into(), Wanted::These(&these(&["c"]))).await.unwrap();
    assert_eq!(hosts.keeps("c"), "one two three four");
    let tellings = hosts.told.lock().unwrap().iter().filter(|(host, ..)| host == "c").count();
    assert_eq!(tellings, 2, "one was under way, and one had the rest");
}

#[tokio::test(start_paused = true)]
async fn what_acts_on_nobody_waits_for_the_first_host_that_keeps_it() {
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(40))), ("c", Manner::Keeps(ms(7)))]);
    let mut copies = hosts.copies();
    let began = Instant::now();
    copies.bring_up_to(&"one".into(), Wanted::These(&[])).await.unwrap();
    assert_eq!(began.elapsed(), ms(7));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_silent_is_passed_over_sooner_the_next_time_and_told_all_once_it_answers() {
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(1))), ("c", Manner::Silent)]);
    let mut copies = hosts.copies();
    let waited = async |copies: &mut Copies<'static>, text: &str| {
        let began = Instant::now();
        copies.bring_up_to(&text.into(), Wanted::All).await.unwrap();
        began.elapsed()
    };
    assert_eq!(waited(&mut copies, "one").await, PATIENCE);
    assert_eq!(waited(&mut copies, "one two").await, IMPATIENCE);
    hosts.is("c", Manner::Keeps(ms(2)));
    timeout(TELL_TIMEOUT + RETRY_EVERY, copies.spread()).await.unwrap_err();
    assert_eq!(hosts.keeps("c"), "one two", "told anew, though nothing more was written");
    assert_eq!(waited(&mut copies, "one two three").await, ms(2));
    assert_eq!(hosts.keeps("c"), "one two three");
}

#[tokio::test(start_paused = true)]
async fn the_only_host_is_waited_for_however_often_it_was_late() {
    let hosts = Hosts::of(&[("b", Manner::Silent)]);
    let mut copies = hosts.copies();
    let began = Instant::now();
    copies.bring_up_to(&"one".into(), Wanted::All).await.unwrap_err();
    assert_eq!(began.elapsed(), TELL_TIMEOUT);
    hosts.is("b", Manner::Keeps(PATIENCE * 2));
    copies.bring_up_to(&"one two".into(), Wanted::All).await.unwrap();
    assert_eq!(hosts.keeps("b"), "one two");
}

#[tokio::test(start_paused = true)]
async fn what_no_host_keeps_is_not_done() {
    let hosts = Hosts::of(&[("b", Manner::Refuses(ms(1), FaultKind::Host)), ("c", Manner::Silent)]);
    let error = hosts.copies().bring_up_to(&"one".into(), Wanted::These(&these(&["b"]))).await.unwrap_err();
    assert!(matches!(error, JournalError::NoCopy(_)), "{error}");
    let hosts = Hosts::of(&[("b", Manner::Refuses(ms(1), FaultKind::NotFound))]);
    let error = hosts.copies().bring_up_to(&"one".into(), Wanted::All).await.unwrap_err();
    assert!(matches!(error, JournalError::Held(_)), "{error}");
    let error = Hosts::of(&[]).copies().bring_up_to(&"one".into(), Wanted::All).await.unwrap_err();
    assert!(matches!(error, JournalError::Held(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn that_another_has_the_run_stops_it_at_once_or_as_soon_as_a_host_says_so() {
    let b = these(&["b"]);
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(2))), ("c", Manner::Refuses(ms(1), FaultKind::Held))]);
    let error = hosts.copies().bring_up_to(&"one".into(), Wanted::These(&b)).await.unwrap_err();
    assert!(matches!(error, JournalError::Held(_)), "{error}");
    // Said while something is done.
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(2))), ("c", Manner::Refuses(ms(40), FaultKind::Held))]);
    let mut copies = hosts.copies();
    copies.bring_up_to(&"one".into(), Wanted::These(&b)).await.unwrap();
    let began = Instant::now();
    assert_eq!(copies.spread().await.kind, FaultKind::Held);
    assert_eq!(began.elapsed(), ms(38));
    let error = copies.bring_up_to(&"one two".into(), Wanted::These(&b)).await.unwrap_err();
    assert!(matches!(error, JournalError::Held(_)), "{error}");
}

/// Both hosts keep the beginning.
async fn begun(b: Manner, c: Manner) -> (Arc<Hosts>, Copies<'static>, &'static Carried) {
    let hosts = Hosts::of(&[("b", Manner::Keeps(ms(1))), ("c", Manner::Keeps(ms(1)))]);
    let (mut copies, carried) = hosts.carried();
    copies.bring_up_to(&"one".into(), Wanted::All).await.unwrap();
    hosts.is("b", b);
    hosts.is("c", c);
    (hosts, copies, carried)
}

#[tokio::test(start_paused = true)]
async fn an_order_brings_it_to_the_host_that_is_acted_on_and_the_others_are_told_if_that_lasts() {
    let (hosts, mut copies, carried) = begun(Manner::Keeps(ms(40)), Manner::Keeps(ms(40))).await;
    let (began, c) = (Instant::now(), these(&["c"]));
    copies.bring_up_to(&"one two".into(), Wanted::These(&c)).await.unwrap();
    assert_eq!((began.elapsed(), carried.due(&run(), &host("c"))), (ms(0), Some((3, "one two".into()))));
    assert_eq!(carried.due(&run(), &host("b")), None);
    carried.tried(&run(), &host("c"), true);
    // It did not last.
    timeout(ms(20), copies.spread()).await.unwrap_err();
    copies.bring_up_to(&"one two three".into(), Wanted::These(&c)).await.unwrap();
    assert_eq!((began.elapsed(), carried.due(&run(), &host("c"))), (ms(20), Some((7, "one two three".into()))));
    assert_eq!(hosts.keeps("b"), "one");
    // This one does.
    timeout(ms(200), copies.spread()).await.unwrap_err();
    assert_eq!((hosts.keeps("b"), hosts.keeps("c")), ("one two three".into(), "one".into()));
}

#[tokio::test(start_paused = true)]
async fn what_no_order_has_brought_is_told() {
    let (hosts, mut copies, carried) = begun(Manner::Keeps(ms(1)), Manner::Keeps(ms(1))).await;
    copies.bring_up_to(&"one two".into(), Wanted::These(&these(&["b", "c"]))).await.unwrap();
    carried.tried(&run(), &host("b"), false);
    copies.bring_up_to(&"one two three".into(), Wanted::All).await.unwrap();
    assert_eq!(["b", "c"].map(|name| hosts.keeps(name)), ["one two three", "one two three"]);
    assert_eq!(carried.due(&run(), &host("c")), None);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_late_or_keeps_nothing_is_told_and_waited_for() {
    let (hosts, mut copies, carried) = begun(Manner::Keeps(ms(1)), Manner::Silent).await;
    copies.bring_up_to(&"one two".into(), Wanted::All).await.unwrap();
    let began = Instant::now();
    copies.bring_up_to(&"one two three".into(), Wanted::These(&these(&["b", "c"]))).await.unwrap();
    assert_eq!((began.elapsed(), hosts.keeps("b")), (IMPATIENCE + ms(1), "one two three".into()), "somebody keeps it");
    assert_eq!(["b", "c"].map(|name| carried.due(&run(), &host(name))), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_being_told_has_the_rest_by_its_order() {
    let (hosts, mut copies, carried) = begun(Manner::Keeps(ms(40)), Manner::Keeps(ms(60))).await;
    copies.bring_up_to(&"one two".into(), Wanted::These(&[])).await.unwrap();
    let began = Instant::now();
    timeout(ms(10), copies.spread()).await.unwrap_err();
    copies.bring_up_to(&"one two three".into(), Wanted::These(&these(&["c"]))).await.unwrap();
    assert_eq!(carried.due(&run(), &host("c")), Some((7, "one two three".into())));
    assert_eq!((began.elapsed(), hosts.keeps("c")), (ms(20), "one two".into()));
}

#[tokio::test(start_paused = true)]
async fn what_is_lent_for_an_order_that_comes_late_is_told() {
    let (hosts, mut copies, carried) = begun(Manner::Keeps(ms(1)), Manner::Keeps(ms(1))).await;
    copies.bring_up_to(&"one two".into(), Wanted::These(&these(&["b", "c"]))).await.unwrap();
    // The first one's order cannot bring it, and the second one's comes after that.
    carried.tried(&run(), &host("b"), false);
    hosts.is("b", Manner::Refuses(ms(1), FaultKind::Host));
    timeout(LINGER + RETRY_EVERY + ms(2), copies.spread()).await.unwrap_err();
    assert_eq!(hosts.keeps("c"), "one two");
    assert_eq!(carried.due(&run(), &host("c")), None);
    let error = copies.bring_up_to(&"one two three".into(), Wanted::These(&these(&["b"]))).await;
    assert!(error.is_ok(), "c keeps it: {error:?}");
}

#[tokio::test(start_paused = true)]
async fn others_are_told_soon_where_one_that_is_to_bring_it_still_hears_something_else() {
    let (hosts, mut copies, _) = begun(Manner::Keeps(ms(1)), Manner::Keeps(ms(1))).await;
    hosts.is("c", Manner::Silent);
    copies.bring_up_to(&"one two".into(), Wanted::These(&these(&["b"]))).await.unwrap();
    timeout(LINGER + ms(5), copies.spread()).await.unwrap_err();
    let began = Instant::now();
    copies.bring_up_to(&"one two three".into(), Wanted::These(&these(&["c"]))).await.unwrap();
    assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
    assert_eq!(hosts.keeps("b"), "one two three");
}
