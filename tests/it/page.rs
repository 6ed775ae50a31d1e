//! The status page in a real browser: what a person sees and clicks. `VIGIE_SCREENSHOTS=DIR` keeps pictures of it.

use nix::sys::signal::Signal;
use vigie_tests::browser::Browser;
use vigie_tests::region::Region;

/// All services that are shown are shown in this state.
fn all(state: &str) -> String {
    let shown = "[...document.querySelectorAll('[data-service]')]";
    format!("{shown}.length >= 3 && {shown}.every((service) => service.dataset.state === '{state}')")
}

fn keep(browser: &Browser, name: &str) {
    if let Ok(dir) = std::env::var("VIGIE_SCREENSHOTS") {
        browser.screenshot(&std::path::Path::new(&dir).join(name));
    }
}

#[test]
fn a_person_reads_an_outage_in_both_languages_and_is_never_told_that_stale_is_well() {
    let region = Region::start();
    let url = format!("http://{}/", region.aggregator.address);
    let phone = Browser::start(390, 844, "fr-FR,fr");
    phone.open(&url);
    phone.wait(&all("up"));
    phone.wait("document.documentElement.lang === 'fr'");
    assert_eq!(phone.eval("document.documentElement.scrollWidth <= innerWidth"), true, "the page is wider than a phone");
    keep(&phone, "phone-up-fr.png");

    region.break_web();
    phone.wait("document.querySelector('[data-service=\"web/r1\"]').dataset.state === 'down'");
    phone.wait("document.querySelectorAll('[data-open-window]').length === 1");
    keep(&phone, "phone-down-fr.png");
    let id = region.mend_web();
    phone.wait(&all("up"));
    phone.wait("document.querySelectorAll('[data-open-window]').length === 0");

    let wall = Browser::start(1920, 1080, "en-GB,en");
    wall.open(&url);
    wall.wait("document.documentElement.lang === 'en'");
    wall.wait(&all("up"));
    let row = format!("[data-window=\"{id}\"]");
    wall.wait(&format!("document.querySelector('{row}') !== null"));
    wall.click(&format!("{row} summary"));
    wall.wait("/web\\/r1 was unavailable from/.test(document.querySelector('[data-test=explanation]').textContent)");
    wall.wait("document.querySelectorAll('[data-test=explanation] svg *').length > 10");
    keep(&wall, "wall-explanation-en.png");
    wall.click("[data-test=language] [data-lang=fr]");
    wall.wait("/web\\/r1 indisponible de/.test(document.querySelector('[data-test=explanation]').textContent)");
    wall.click("[data-test=theme] [data-theme-choice=dark]");
    wall.click("[data-test=zoom] [data-zoom=month]");
    wall.wait("document.querySelectorAll('[data-test=timeline] svg, [data-test=timeline] .mark, [data-test=timeline] rect').length > 0");
    keep(&wall, "wall-dark-fr.png");

    region.aggregator.signal(Signal::SIGSTOP);
    for browser in [&phone, &wall] {
        browser.wait(&all("unknown"));
        browser.wait("!document.querySelector('[data-test=stale]').hidden");
    }
    keep(&phone, "phone-stale-fr.png");
    region.aggregator.signal(Signal::SIGCONT);
    for browser in [&phone, &wall] {
        browser.wait(&all("up"));
        browser.wait("document.querySelector('[data-test=stale]').hidden");
    }
}
