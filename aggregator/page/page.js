// The status page. It shows what the aggregator says and decides nothing, with one exception: what it no longer hears is unknown.
// Data reaches the page through textContent and attributes only, never as markup.

// ---------------------------------------------------------------- words

/** English and French, side by side. */
const WORDS = {
  skip: ['Skip to the content', 'Aller au contenu'],
  language: ['Language', 'Langue'],
  theme: ['Theme', 'Thème'],
  themeAuto: ['Auto', 'Auto'],
  themeLight: ['Light', 'Clair'],
  themeDark: ['Dark', 'Sombre'],
  openWindows: ['Open outage windows', 'Fenêtres d’indisponibilité en cours'],
  candidates: ['Claims that wait for a decision', 'Réclamations en attente de décision'],
  glance: ['The region at a glance', 'La région d’un coup d’œil'],
  month: ['Month', 'Mois'],
  budgets: ['Error budget', 'Budget d’erreur'],
  timeline: ['Timeline', 'Chronologie'],
  latency: ['Latency against the objective', 'Latence face à l’objectif'],
  windows: ['Outage windows', 'Fenêtres d’indisponibilité'],
  budgetsNote: [
    'The low bound counts all unknown time as down. Nothing is final before late evidence is ruled out.',
    'La borne basse compte tout le temps inconnu en panne. Rien n’est définitif tant que des relevés tardifs peuvent arriver.',
  ],
  service: ['Service', 'Service'],
  budgetLeft: ['Budget left', 'Budget restant'],
  toDate: ['To date', 'À ce jour'],
  low: ['Low bound', 'Borne basse'],
  objective: ['Objective', 'Objectif'],
  verdict: ['Verdict so far', 'Verdict à ce stade'],
  noAccounts: ['No contractual line is accounted in this month.', 'Aucune ligne contractuelle n’est comptée ce mois-ci.'],
  noWindows: ['No outage window in this month.', 'Aucune fenêtre d’indisponibilité ce mois-ci.'],
  earlier: ['Earlier', 'Plus tôt'],
  later: ['Later', 'Plus tard'],
  zoom: ['Zoom', 'Échelle'],
  zoomMonth: ['Month', 'Mois'],
  zoomDay: ['Day', 'Jour'],
  zoomHour: ['Hour', 'Heure'],
  zoomMinutes: ['10 min', '10 min'],
  legendMeasured: ['measured, nothing to report (blank: not measured)', 'mesuré, rien à signaler (vide : non mesuré)'],
  legendDown: ['outage', 'panne'],
  legendClaimed: ['claimed by the customer', 'réclamé par le client'],
  legendUnknown: ['unknown', 'inconnu'],
  legendExcluded: ['excluded (below the line)', 'exclu (sous la ligne)'],
  metrics: ['Metrics', 'Métriques'],
  up: ['up', 'en service'],
  down: ['down', 'en panne'],
  unknown: ['unknown', 'inconnu'],
  gated: ['cut off', 'coupé'],
  open: ['open', 'en cours'],
  restoring: ['restoring', 'rétablissement'],
  closed: ['closed', 'close'],
  outage: ['outage', 'panne'],
  claim: ['claim', 'réclamation'],
  mixed: ['outage and claim', 'panne et réclamation'],
  breached: ['objective missed', 'objectif manqué'],
  compliant: ['objective kept', 'objectif tenu'],
  undecided: ['undecided', 'indécis'],
  final: ['final', 'définitif'],
  connecting: ['connecting to the aggregator…', 'connexion à l’agrégateur…'],
  connection_lost: ['connection lost: the page no longer hears the aggregator.', 'connexion perdue : la page n’entend plus l’agrégateur.'],
  starting: ['the aggregator has just started and still reads the evidence.', 'l’agrégateur vient de démarrer et lit encore les relevés.'],
  no_catalogue: ['no catalogue is in force.', 'aucun catalogue n’est en vigueur.'],
  append_failing: ['evidence can no longer be recorded: appending to the log fails.', 'les relevés ne peuvent plus être enregistrés : l’écriture du journal échoue.'],
  store_failing: ['the window store does not take what follows from the evidence.', 'la base des fenêtres n’accepte pas les résultats.'],
  frontier_lags: ['evaluation lags behind: no fresh evidence reaches the engine.', 'l’évaluation est en retard : aucun relevé récent n’atteint le moteur.'],
  log_ahead: ['the log’s clock is ahead of this machine’s: wait until it has caught up.', 'l’horloge du journal est en avance sur celle de la machine : attendre qu’elle soit rattrapée.'],
  engine_stopped: ['the engine has stopped.', 'le moteur est arrêté.'],
  staleTitle: ['Every state is unknown:', 'Tous les états sont inconnus :'],
  lastKnown: [(time) => `last known at ${time}`, (time) => `dernier état connu à ${time}`],
  allUp: [(n) => (n === 1 ? 'The service is up' : `All ${n} services are up`), (n) => (n === 1 ? 'Le service fonctionne' : `Les ${n} services fonctionnent`)],
  nDown: [(n) => `${n} down`, (n) => `${n} en panne`],
  nUnknown: [(n) => `${n} unknown`, (n) => (n === 1 ? '1 inconnu' : `${n} inconnus`)],
  nUp: [(n) => `${n} up`, (n) => `${n} en service`],
  stateUnknown: ['The state of the region is unknown', 'L’état de la région est inconnu'],
  asOf: [(time, zone) => `Evaluated up to ${time} · ${zone}`, (time, zone) => `Évalué jusqu’à ${time} · ${zone}`],
  since: [(d) => `for ${d}`, (d) => `depuis ${d}`],
  suspect: [(zones) => `failures seen from ${zones}`, (zones) => `échecs vus depuis ${zones}`],
  coverage: [(p) => `seen ${p} %`, (p) => `vu à ${p} %`],
  notContractual: ['not contractual', 'hors contrat'],
  heard: [(d) => `heard ${d} ago`, (d) => `entendu il y a ${d}`],
  neverHeard: ['not heard yet', 'pas encore entendu'],
  zoneGated: ['cut off: all its anchors are down from here', 'coupé : toutes ses ancres sont en panne vues d’ici'],
  began: [(time) => `since ${time}`, (time) => `depuis le ${time}`],
  whyDown: [
    (t, zones, n, of, quorum) => `${t} seen down from ${zones}: ${n} of ${of} vantages, ${quorum} needed.`,
    (t, zones, n, of, quorum) => `${t} vu en panne depuis ${zones} : ${n} points de vue sur ${of}, il en faut ${quorum}.`,
  ],
  whyClaim: [(ids) => `Notified by the customer (${ids}).`, (ids) => `Signalé par le client (${ids}).`],
  whyRestoring: [(d) => `Up again; closes after ${d} without a failure.`, (d) => `De nouveau en service ; close après ${d} sans échec.`],
  whyInferred: ['Nothing seen since the outage: blindness is not restoration.', 'Plus rien n’a été vu depuis la panne : ne rien voir n’est pas un rétablissement.'],
  adviceAccept: ['supervision was blind then: nothing speaks against it', 'la supervision ne voyait rien alors : rien ne s’y oppose'],
  adviceReview: ['supervision saw something else: to be reviewed', 'la supervision a vu autre chose : à examiner'],
  opened: [(time) => `opened ${time}`, (time) => `ouverte le ${time}`],
  remaining: [(d) => `${d} left`, (d) => `reste ${d}`],
  overspent: [(d) => `overspent by ${d}`, (d) => `dépassé de ${d}`],
  ofBudget: [(d) => `of ${d}`, (d) => `sur ${d}`],
  parts: [(down, unknown) => `down ${down} · unknown ${unknown}`, (down, unknown) => `panne ${down} · inconnu ${unknown}`],
  over: [(over, ok) => `${over} of ${ok} above the objective`, (over, ok) => `${over} sur ${ok} au-dessus de l’objectif`],
  greatest: [(d) => `greatest ${d}`, (d) => `maximum ${d}`],
  atMost: [(d) => `objective ${d}`, (d) => `objectif ${d}`],
  detectedAfter: [(d) => `seen by a quorum after ${d}`, (d) => `vue par un quorum après ${d}`],
  ended_customer: ['ended by the customer’s confirmation', 'close par la confirmation du client'],
  ended_supervision: ['ended by supervision', 'close par la supervision'],
  observed_down_us: ['observed down', 'panne observée'],
  inferred_down_us: ['inferred down', 'panne déduite'],
  up_inside_us: ['up inside', 'en service'],
  unknown_inside_us: ['unknown inside', 'inconnu'],
  contested_us: ['claimed while seen up', 'réclamé, vu en service'],
  ongoing: ['ongoing', 'en cours'],
  onset: ['onset', 'début'],
  end: ['end', 'fin'],
  detected: ['quorum', 'quorum'],
  notified: ['notified', 'signalé'],
  now: ['now', 'maintenant'],
  quorum: [(q, of) => `quorum ${q} of ${of}`, (q, of) => `quorum ${q} sur ${of}`],
  tickOk: ['success', 'succès'],
  tickFail: ['failure', 'échec'],
  tickVoid: ['no evidence', 'pas de preuve'],
  gate: ['gate: vantage cut off', 'coupure : point de vue isolé'],
  quorumDown: ['quorum: down', 'quorum : en panne'],
  quorumUnknown: ['quorum: unknown', 'quorum : inconnu'],
  picture: [
    (service, from, to) => `Samples of ${service} by target and vantage, ${from} to ${to}, with the window's onset and end; in words below.`,
    (service, from, to) => `Relevés de ${service} par cible et par point de vue, de ${from} à ${to}, avec le début et la fin de la fenêtre ; en mots ci-dessous.`,
  ],
  leftOut: [(n) => `${n} samples in the middle are not drawn.`, (n) => `${n} relevés du milieu ne sont pas dessinés.`],
  noSamples: ['The samples of this window are no longer kept here.', 'Les relevés de cette fenêtre ne sont plus conservés ici.'],
  more: [(n) => `Show ${n} more`, (n) => `En montrer ${n} de plus`],
  loadFailed: ['This could not be loaded; it is tried again shortly.', 'Chargement impossible ; nouvel essai sous peu.'],
  gone: [
    'The window of this link does not exist, or evidence that came late has taken it back.',
    'La fenêtre de ce lien n’existe pas, ou des relevés tardifs l’ont reprise.',
  ],
  laneSummary: [
    (down, claimed, unknown, excluded) => `outage ${down}, of that claimed ${claimed}, unknown ${unknown}, excluded ${excluded}`,
    (down, claimed, unknown, excluded) => `panne ${down}, dont réclamé ${claimed}, inconnu ${unknown}, exclu ${excluded}`,
  ],
  version: [(v, rev) => `vigie ${v}${rev === null ? '' : ` · catalogue revision ${rev}`}`, (v, rev) => `vigie ${v}${rev === null ? '' : ` · catalogue révision ${rev}`}`],
  units: [['d', 'h', 'min', 's', 'ms'], ['j', 'h', 'min', 's', 'ms']],
};

// ---------------------------------------------------------------- what the page knows

const SECOND = 1_000_000;
const DAY = 86_400 * SECOND;
/** Longer silence than this, in ms, and nothing on the page may be believed. */
const QUIET = 12_000;
/** Other parts than the live status are asked for this often, in ms. */
const REFRESH = 5_000;
/** As many windows are listed at first, and more by as many. */
const PAGEFUL = 25;
/** Seconds between ticks, and how far apart labels may be, by zoom. */
const ZOOMS = {
  month: { unit: 86_400, every: [1, 2, 5, 10] },
  day: { length: DAY, unit: 3_600, every: [1, 2, 3, 6, 12] },
  hour: { length: 3_600 * SECOND, unit: 300, every: [1, 2, 3, 6] },
  minutes: { length: 600 * SECOND, unit: 60, every: [1, 2, 5] },
};

/** Browsers may forbid to remember; then the page forgets. */
function remembered(name) {
  try {
    return localStorage.getItem(`vigie-${name}`);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`vigie-${name}`, value);
  } catch { /* As above. */ }
}

const page = {
  lang: remembered('lang') ?? document.documentElement.lang, // The server has read Accept-Language.
  theme: remembered('theme') ?? 'auto',
  status: null, // The last one heard.
  heard: Date.now(), // When; wall time, since monotonic clocks may stand still while a laptop sleeps.
  source: null,
  tried: 0,
  month: null, // The chosen month; null follows the live one.
  data: null, // Accounts, windows, timeline and latencies of the month.
  zoom: null, // The chosen zoom; null fits it to what is measured.
  back: 0, // How many lengths of the zoom the timeline looks back.
  listed: PAGEFUL,
  stories: new Map(), // Window → explanation and samples.
  wanted: null, // The window that a link asks for.
  gone: false,
};

const VOCABULARIES = [0, 1].map((language) => Object.fromEntries(Object.entries(WORDS).map(([key, pair]) => [key, pair[language]])));
const words = () => VOCABULARIES[page.lang === 'fr' ? 1 : 0];
const locale = () => (page.lang === 'fr' ? 'fr-FR' : 'en-GB');
const byId = (id) => document.getElementById(id);

// ---------------------------------------------------------------- DOM, in place

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function attr(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function style(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

const SVG = ['svg', 'use', 'path', 'rect', 'line', 'text', 'title'];

/** `make('p.note.late', {}, 'words')` is an element with its classes, attributes and children. */
function make(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split('.');
  const node = SVG.includes(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  if (classes.length) node.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) attr(node, name, value);
  node.append(...children);
  return node;
}

const rows = new WeakMap();

/** Makes `parent` hold one node per item, in order; nodes whose key stays are kept, and move only if they must. */
function keyed(parent, items, key, create, update) {
  const known = rows.get(parent) ?? new Map();
  const next = new Map();
  items.forEach((item, index) => {
    const row = known.get(key(item)) ?? create(item);
    next.set(key(item), row);
    update(row, item);
    if (parent.children[index] !== row.node) parent.insertBefore(row.node, parent.children[index] ?? null);
  });
  for (const [name, row] of known) if (!next.has(name)) row.node.remove();
  rows.set(parent, next);
}

const GLYPHS = ['up', 'down', 'restoring', 'gated'];

function makeGlyph() {
  return make('svg.glyph', { 'aria-hidden': 'true' }, make('use'));
}

function setGlyph(svg, state) {
  const name = GLYPHS.includes(state) ? state : 'unknown';
  attr(svg, 'data-state', name);
  attr(svg.firstElementChild, 'href', `#g-${name}`);
}

// ---------------------------------------------------------------- times and figures

const formats = new Map();

function formatted(us, options) {
  const timeZone = page.status?.timezone || 'UTC';
  const name = JSON.stringify([locale(), timeZone, options]);
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat(locale(), { timeZone, ...options }));
  return formats.get(name).format(us / 1000);
}

const clock = (us) => formatted(us, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const hourMinute = (us) => formatted(us, { hour: '2-digit', minute: '2-digit' });
const date = (us) => formatted(us, { day: 'numeric', month: 'short' });
const dateTime = (us) => `${date(us)} ${clock(us)}`;
const monthOf = (us) => formatted(us, { year: 'numeric', month: '2-digit' }).split('/').reverse().join('-');

function monthName(month) {
  const [year, number] = month.split('-').map(Number);
  const name = new Intl.DateTimeFormat(locale(), { timeZone: 'UTC', month: 'long', year: 'numeric' }).format(Date.UTC(year, number - 1));
  return name.charAt(0).toUpperCase() + name.slice(1);
}

/** Seconds since local midnight. */
function secondOfDay(us) {
  const [hours, minutes, seconds] = formatted(us, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).split(':');
  return hours * 3600 + minutes * 60 + Number(seconds);
}

/** The two units that matter, without a break inside. */
function duration(us) {
  const [d, h, min, s, ms] = words().units;
  const join = (...parts) => parts.join('\u00a0');
  const seconds = Math.floor(us / SECOND);
  if (us < SECOND) return us === 0 ? join(0, s) : join(Math.max(1, Math.round(us / 1000)).toLocaleString(locale()), ms);
  if (seconds < 10) return join((Math.floor(us / 100_000) / 10).toLocaleString(locale()), s);
  if (seconds < 60) return join(seconds, s);
  const two = (big, bigUnit, small, smallUnit) => (small ? join(big, bigUnit, small, smallUnit) : join(big, bigUnit));
  if (seconds < 3600) return two(Math.floor(seconds / 60), min, seconds % 60, s);
  if (seconds < 86_400) return two(Math.floor(seconds / 3600), h, Math.floor(seconds / 60) % 60, min);
  return two(Math.floor(seconds / 86_400), d, Math.floor(seconds / 3600) % 24, h);
}

/** Whole minutes, or seconds below: what changes less is calmer to look at. */
const coarse = (us) => us - (us % (us < 60 * SECOND ? SECOND : 60 * SECOND));
const count = (n) => n.toLocaleString(locale());
/** A decimal string of the API, digit by digit: only the mark is the language's. */
const percent = (text) => (page.lang === 'fr' ? `${text.replace('.', ',')}\u00a0%` : `${text}\u00a0%`);
const total = (pairs) => pairs.reduce((sum, [start, end]) => sum + end - start, 0);

// ---------------------------------------------------------------- hearing the aggregator

function listen() {
  page.source?.close();
  page.tried = Date.now();
  page.source = new EventSource('api/v1/events');
  page.source.addEventListener('status', (event) => {
    page.status = JSON.parse(event.data);
    page.heard = Date.now();
    show();
    attend();
  });
}

const isQuiet = () => Math.abs(Date.now() - page.heard) > QUIET;

/** Every second: silence turns the page unknown, and a connection that is dead or only seems alive is made anew. */
function watch() {
  const dead = page.source.readyState === EventSource.CLOSED;
  if (Date.now() - page.tried > (dead ? 3_000 : QUIET) && (dead || isQuiet())) listen();
  if (isQuiet()) show();
}

/** What may be shown: the status as heard, or with every state unknown and the cause. */
function believable() {
  const { status } = page;
  if (status && !isQuiet()) return status;
  const cause = isQuiet() ? 'connection_lost' : 'connecting';
  const stale = { cause, since_us: status?.frontier_us ?? null };
  if (!status) return { stale, vantages: [], services: [], targets: [], indicators: [], windows: [], accounts: [], months: [] };
  const blind = (thing) => ({ ...thing, state: 'unknown', since_us: null });
  const targets = status.targets.map((target) => ({ ...blind(target), vantages: target.vantages.map(blind) }));
  return { ...status, stale, services: status.services.map(blind), targets };
}

async function get(path) {
  const answer = await fetch(`api/v1/${path}`, { signal: AbortSignal.timeout(10_000) });
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}

// ---------------------------------------------------------------- parts that are asked for

let asked = 0;
let signature = '';
let asking = false;

/** Asks for the rest when windows have changed, and now and then because time goes on. */
async function attend() {
  const { status } = page;
  const current = JSON.stringify([status.windows, status.catalogue_rev, page.month, status.month]);
  if (asking || document.hidden || !status.month || (current === signature && Date.now() - asked < REFRESH)) return;
  asking = true;
  [signature, asked] = [current, Date.now()];
  await Promise.allSettled([loadMonth(), loadStories()]);
  asking = false;
  show();
}

const shownMonth = () => page.month ?? page.status?.month ?? null;

async function loadMonth() {
  const month = shownMonth();
  const paths = [`accounts?month=${month}`, `windows?month=${month}`, `timeline?month=${month}`, 'latencies'];
  const [{ accounts }, { windows }, timeline, { latencies }] = await Promise.all(paths.map(get));
  if (month !== shownMonth()) return;
  page.data = { month, accounts, windows, timeline, latencies: latencies.filter((line) => line.month === month) };
}

const isOver = (id) => page.data?.windows.some((window) => window.id === id && window.status === 'closed');

/** Explanations of open windows, and of those that somebody reads. */
async function loadStories() {
  const open = page.status.windows.filter((window) => window.status !== 'closed').map((window) => window.id);
  const read = [...document.querySelectorAll('#windows details[open]')].map((details) => details.dataset.window);
  await Promise.allSettled([...new Set([...open, ...read])].map(loadStory));
}

async function loadStory(id) {
  const { lang } = page;
  const known = page.stories.get(id);
  if (known?.lang === lang && known.over && !known.failed) return;
  try {
    const over = isOver(id) ?? false;
    const [explanation, samples] = await Promise.all([get(`windows/${id}/explanation?lang=${lang}`), get(`windows/${id}/samples`)]);
    page.stories.set(id, { lang, over, ...explanation, samples });
  } catch {
    page.stories.set(id, { ...known, failed: true });
  }
}

// ---------------------------------------------------------------- now

function show() {
  const status = believable();
  for (const part of [showFrame, showOpen, showZones, showGlance, showCandidates, showMonth]) {
    try {
      part(status);
    } catch (error) {
      reportError(error); // A part that fails must not keep the others as they were.
    }
  }
}

function showFrame(status) {
  const w = words();
  put(byId('tenant'), status.tenant ?? '');
  put(byId('notice'), status.notice ?? '');
  byId('notice').hidden = !status.notice;
  showStale(status);
  const { stale } = status;
  const of = (state) => status.services.filter((service) => service.state === state).length;
  const [down, unknown, up] = [of('down'), of('unknown'), of('up')];
  const parts = [down && w.nDown(down), unknown && w.nUnknown(unknown), up && w.nUp(up)].filter(Boolean);
  const all = up > 0 && !down && !unknown ? w.allUp(up) : parts.join(' · ');
  const summary = stale?.cause === 'connecting' ? w.connecting : stale ? w.stateUnknown : all;
  const state = !stale && down ? 'down' : stale || unknown || !up ? 'unknown' : 'up';
  put(byId('summary'), summary);
  setGlyph(document.querySelector('.hero .glyph'), state);
  attr(document.querySelector('.hero'), 'data-state', state);
  put(byId('asof'), status.frontier_us ? w.asOf(clock(status.frontier_us), status.timezone) : '');
  document.title = `${{ down: '✕ ', unknown: '? ', up: '' }[state]}${summary} — vigie`;
  put(byId('version'), status.version ? w.version(status.version, status.catalogue_rev) : '');
}

function showStale({ stale }) {
  const w = words();
  attr(document.documentElement, 'data-stale', stale?.cause);
  byId('stale').hidden = !stale || stale.cause === 'connecting';
  const known = stale?.since_us ? w.lastKnown(dateTime(stale.since_us)) : '';
  put(byId('stale-title'), w.staleTitle);
  put(byId('stale-cause'), stale ? [w[stale.cause] ?? stale.cause, known && `(${known})`].filter(Boolean).join(' ') : '');
  put(byId('month-asof'), known);
}

const chip = () => make('span.chip');

function showOpen(status) {
  const open = status.windows.filter((window) => window.status !== 'closed');
  byId('open').hidden = open.length === 0;
  keyed(document.querySelector('.open-list'), open, (window) => window.id, makeOpen, (row, window) => {
    const w = words();
    attr(row.node, 'data-status', status.stale ? 'unknown' : window.status);
    setGlyph(row.glyph, status.stale ? 'unknown' : window.status === 'open' ? 'down' : 'restoring');
    put(row.service, window.service);
    attr(row.service, 'href', `#window-${window.id}`);
    put(row.status, status.stale ? w.lastKnown(clock(status.frontier_us)) : w[window.status]);
    put(row.lasts, duration(status.frontier_us - window.onset_us));
    put(row.began, w.began(dateTime(window.onset_us)));
    put(row.why, why(window).join(' '));
  });
}

function makeOpen(window) {
  const row = { glyph: makeGlyph(), service: make('a'), status: chip(), lasts: make('strong.lasts'), began: make('span.began'), why: make('p.why') };
  const head = make('div.open-head', {}, row.service, row.status);
  row.node = make('li', { 'data-open-window': window.id }, row.glyph, head, make('div.open-time', {}, row.lasts, row.began), row.why);
  return row;
}

/** In a sentence or two, from the story if it has come. */
function why(window) {
  const w = words();
  const story = page.stories.get(window.id)?.story;
  const said = window.claims.length ? [w.whyClaim(window.claims.join(', '))] : [];
  const targets = (story?.detected ?? story?.onset)?.targets.filter((target) => target.dated === 'down') ?? [];
  for (const target of targets.slice(0, 3)) {
    const zones = target.vantages.filter((vantage) => vantage.state === 'down').map((vantage) => vantage.vantage);
    if (zones.length) said.push(w.whyDown(target.target, zones.join(', '), zones.length, target.vantages.length, target.down_quorum));
  }
  if (window.status === 'restoring' && story) said.push(w.whyRestoring(duration(story.stable_up_us)));
  if (window.status === 'open' && window.inferred_down_us > 0) said.push(w.whyInferred);
  return said;
}

function showCandidates(status) {
  const w = words();
  const candidates = status.services.flatMap((service) => service.candidates);
  byId('candidates').hidden = candidates.length === 0;
  keyed(document.querySelector('#candidates ul'), candidates, (line) => line.claim, () => ({ node: make('li') }), (row, line) => {
    const advice = line.advice === 'accept' ? w.adviceAccept : w.adviceReview;
    put(row.node, `${line.claim} · ${line.service} · ${w.opened(dateTime(line.opened_us))} — ${advice}`);
  });
}

function showZones(status) {
  keyed(byId('zones'), status.vantages, (zone) => zone.id, makeZone, (row, zone) => {
    const w = words();
    setGlyph(row.glyph, status.stale ? 'unknown' : zone.gated ? 'gated' : zone.newest_us ? 'up' : 'unknown');
    attr(row.node, 'data-state', status.stale ? 'unknown' : zone.gated ? 'gated' : 'heard');
    put(row.name, zone.id);
    const ago = zone.newest_us ? w.heard(duration(coarse(Math.max(0, status.now_us - zone.newest_us)))) : w.neverHeard;
    put(row.said, status.stale ? w.unknown : zone.gated ? w.zoneGated : ago);
  });
}

function makeZone(zone) {
  const row = { glyph: makeGlyph(), name: make('b'), said: make('span') };
  row.node = make('li', { 'data-zone': zone.id }, row.glyph, row.name, row.said);
  return row;
}

function showGlance(status) {
  const of = (indicator) => status.services.filter((service) => service.indicator === indicator.id);
  const targets = new Map(status.targets.map((target) => [target.id, target]));
  byId('glance').parentElement.hidden = status.services.length === 0;
  keyed(byId('glance'), status.indicators.filter((indicator) => of(indicator).length), (indicator) => indicator.id, makeCard, (card, indicator) => {
    put(card.name, indicator.name ?? indicator.id);
    put(card.id, indicator.name ? indicator.id : '');
    keyed(card.list, of(indicator), (service) => service.id, makeService, (row, service) => showService(row, service, status, targets));
  });
}

function makeCard() {
  const card = { name: make('h4'), id: make('p.id'), list: make('ul') };
  card.node = make('article.card', {}, card.name, card.id, card.list);
  return card;
}

function makeService(service) {
  const row = { glyph: makeGlyph(), name: make('span.name'), said: make('span.said'), more: make('span.more-said'), zones: make('ul.seen') };
  row.node = make('li.service', { 'data-service': service.id }, row.glyph, row.name, row.said, row.more, row.zones);
  return row;
}

function showService(row, service, status, targets) {
  const w = words();
  const reached = service.targets.map((id) => targets.get(id)).filter(Boolean);
  const seen = status.vantages.map((vantage) => seenFrom(vantage, reached)).filter((vantage) => vantage.state);
  const failing = seen.filter((vantage) => vantage.state === 'down').map((vantage) => vantage.id);
  attr(row.node, 'data-state', service.state);
  setGlyph(row.glyph, service.state);
  put(row.name, service.id);
  const since = service.since_us && w.since(duration(coarse(status.frontier_us - service.since_us)));
  put(row.said, [w[service.state], since].filter(Boolean).join(' '));
  const said = [];
  if (service.state !== 'down' && failing.length) said.push(w.suspect(failing.join(', ')));
  if (!status.stale && service.coverage < 1) said.push(w.coverage(Math.floor(service.coverage * 100)));
  if (!service.contractual) said.push(w.notContractual);
  put(row.more, said.join(' · '));
  keyed(row.zones, seen, (zone) => zone.id, makeSeen, (cell, zone) => {
    setGlyph(cell.glyph, zone.state);
    attr(cell.node, 'title', zone.detail);
    put(cell.name, zone.id);
    put(cell.state, w[zone.state]);
  });
}

function makeSeen() {
  const cell = { glyph: makeGlyph(), name: make('span'), state: make('span.hush') };
  cell.node = make('li', {}, cell.glyph, cell.name, ' ', cell.state);
  return cell;
}

/** The worst that a vantage sees of some targets, and of which; no state if it measures none of them. */
function seenFrom(vantage, targets) {
  const w = words();
  const of = (target) => target.vantages.filter((one) => one.id === vantage.id).map((one) => ({ id: target.id, state: one.state }));
  const seen = targets.flatMap(of);
  const state = ['down', 'unknown', 'up'].find((level) => seen.some((one) => one.state === level));
  return { id: vantage.id, state, detail: `${vantage.id} — ${seen.map((one) => `${one.id}: ${w[one.state]}`).join(', ')}` };
}

// ---------------------------------------------------------------- the month

function showMonth(status) {
  const month = shownMonth();
  const live = month === status.month;
  document.querySelector('.month').hidden = !month;
  put(byId('month-title'), month ? monthName(month) : '');
  const months = [...status.months].reverse();
  const makeMonth = (name) => ({ node: make('option', { value: name }) });
  keyed(byId('month-picker'), months, (name) => name, makeMonth, (row, name) => put(row.node, monthName(name)));
  if (month && byId('month-picker').value !== month) byId('month-picker').value = month;
  const data = page.data?.month === month ? page.data : null;
  const accounts = live ? status.accounts : (data?.accounts ?? []);
  const latencies = live ? status.targets.map((target) => target.latency).filter(Boolean) : (data?.latencies ?? []);
  showBudgets(status, accounts, live);
  showLatency(status, latencies, live);
  showTimeline(data);
  showWindows(status, data?.windows ?? null);
}

function showBudgets(status, accounts, live) {
  const of = new Map(accounts.map((account) => [account.service, account]));
  const indicators = new Map(status.indicators.map((indicator) => [indicator.id, indicator]));
  const order = [...indicators.keys()];
  const lines = status.services.filter((service) => service.contractual && of.has(service.id));
  lines.sort((one, other) => order.indexOf(one.indicator) - order.indexOf(other.indicator));
  byId('budgets').hidden = lines.length === 0;
  byId('no-accounts').hidden = lines.length > 0 || !status.month;
  keyed(byId('budgets').tBodies[0], lines, (service) => service.id, makeBudget, (row, service) => {
    showBudget(row, of.get(service.id), indicators.get(service.indicator), live);
  });
}

function makeBudget(service) {
  const cell = (name) => make(`td.num.${name}`);
  const [name, indicator, id, left, of, parts] = ['b', 'span', 'span', 'span', 'span', 'span'].map((tag) => make(tag));
  const [spent, unseen] = ['spent', 'unseen'].map((kind) => make(`i.${kind}`));
  const [toDate, low, objective] = ['to-date', 'low', 'objective'].map(cell);
  const row = { name, indicator, id, left, of, parts, spent, unseen, toDate, low, objective, verdict: chip() };
  const bar = make('div.bar', { 'aria-hidden': 'true' }, spent, unseen);
  const budget = make('td.budget', {}, make('div.figures', {}, left, of), bar, parts);
  const head = make('th', { scope: 'row' }, name, make('small', {}, indicator, id));
  row.node = make('tr', { 'data-budget': service.id }, head, budget, toDate, low, objective, make('td.verdict', {}, row.verdict));
  return row;
}

function showBudget(row, account, indicator, live) {
  const w = words();
  put(row.name, account.service);
  put(row.indicator, indicator.name ? `${indicator.name} · ` : '');
  put(row.id, indicator.id);
  const remaining = account.remaining_us;
  put(row.left, remaining < 0 ? w.overspent(duration(-remaining)) : w.remaining(duration(remaining)));
  put(row.of, w.ofBudget(duration(account.budget_us)));
  const share = (us) => (account.budget_us > 0 ? Math.min(1, us / account.budget_us) : us > 0 ? 1 : 0);
  style(row.spent, '--share', share(account.down_us).toFixed(4));
  style(row.unseen, '--share', Math.min(share(account.unknown_us), 1 - share(account.down_us)).toFixed(4));
  put(row.parts, w.parts(duration(account.down_us), duration(account.unknown_us)));
  put(row.toDate, percent(account.availability_to_date));
  put(row.low, percent(account.availability_low));
  put(row.objective, percent(live ? indicator.objective : account.objective));
  [[row.toDate, w.toDate], [row.low, w.low], [row.objective, w.objective]].forEach(([cell, label]) => attr(cell, 'data-label', label));
  attr(row.node, 'data-verdict', account.verdict);
  put(row.verdict, w[account.verdict] + (account.final ? ` · ${w.final}` : ''));
}

function showLatency(status, lines, live) {
  const aimed = status.targets.filter((target) => target.latency_objective_us !== null);
  const objectives = new Map(aimed.map((target) => [target.id, target]));
  const shown = lines.filter((line) => objectives.has(line.target));
  byId('latency').hidden = shown.length === 0;
  keyed(document.querySelector('.latencies'), shown, (line) => line.target, makeLatency, (row, line) => {
    const w = words();
    const target = objectives.get(line.target);
    const objective = target.latency_objective_us;
    const isFresh = (vantage) => live && !status.stale && vantage.latency_us !== null && vantage.state === 'up';
    const last = target.vantages.filter(isFresh).map(({ id, latency_us }) => ({ id, latency_us, text: `${id} ${duration(latency_us)}` }));
    const scale = Math.max(objective * 2, line.max_us, ...last.map((vantage) => vantage.latency_us));
    attr(row.node, 'data-over', line.over > 0 ? '' : null);
    put(row.name, line.target);
    put(row.over, w.over(count(line.over), count(line.ok)));
    style(row.limit, '--at', (objective / scale).toFixed(4));
    style(row.greatest, '--at', (line.max_us / scale).toFixed(4));
    put(row.said, [w.atMost(duration(objective)), w.greatest(duration(line.max_us)), ...last.map((one) => one.text)].join(' · '));
    keyed(row.dots, last, (vantage) => vantage.id, () => ({ node: make('i.dot') }), (dot, vantage) => {
      style(dot.node, '--at', (vantage.latency_us / scale).toFixed(4));
      attr(dot.node, 'title', vantage.text);
    });
  });
}

function makeLatency(line) {
  const [limit, greatest, dots] = [make('i.limit'), make('i.greatest'), make('div.dots')];
  const row = { name: make('b'), over: make('span.over'), limit, greatest, dots, said: make('p') };
  const scale = make('div.scale', { 'aria-hidden': 'true' }, limit, greatest, dots);
  row.node = make('li', { 'data-latency': line.target }, row.name, row.over, scale, row.said);
  return row;
}

// ---------------------------------------------------------------- the timeline

/** The smallest zoom that holds all that is measured, unless somebody chose. */
function zoomOf(accounts) {
  if (page.zoom) return page.zoom;
  const measured = Math.max(0, ...accounts.map((account) => account.elapsed_us));
  return ['minutes', 'hour', 'day'].find((name) => measured <= ZOOMS[name].length) ?? 'month';
}

/** What the timeline was drawn from: it may hold thousands of marks, so it is drawn when something has changed only. */
let timelineOf = [];

/** From when to when the timeline shows; its end moves in steps, so that marks do not creep. */
function rangeOf(timeline, zoom) {
  const { length } = ZOOMS[zoom];
  if (!length) return [timeline.start_us, timeline.end_us];
  const step = length / 60;
  const last = Math.ceil(Math.min(timeline.frontier_us, timeline.end_us) / step) * step;
  const end = last - page.back * length;
  return [end - length, end];
}

function showTimeline(data) {
  byId('timeline').hidden = !data;
  if (!data) return;
  const { timeline, accounts, windows } = data;
  const zoom = zoomOf(accounts);
  document.querySelectorAll('[data-zoom]').forEach((button) => attr(button, 'aria-pressed', button.dataset.zoom === zoom));
  const [from, to] = rangeOf(timeline, zoom);
  const inputs = [data, from, to, page.lang, byId('timeline').clientWidth];
  if (inputs.every((input, index) => input === timelineOf[index])) return;
  timelineOf = inputs;
  byId('earlier').disabled = zoom === 'month' || from <= timeline.start_us;
  byId('later').disabled = zoom === 'month' || page.back === 0;
  const [first, last] = [dateTime(from), date(from) === date(to) ? clock(to) : dateTime(to)];
  put(byId('range'), zoom === 'month' ? monthName(timeline.month) : `${first} – ${last}`);
  showTicks(zoom, from, to);
  const links = new Map(windows.map((window) => [`${window.service} ${Math.max(window.onset_us, timeline.start_us)}`, window.id]));
  keyed(document.querySelector('.lanes'), timeline.services, (service) => service.id, makeLane, (lane, service) => {
    put(lane.name, service.id);
    attr(lane.name, 'title', service.id);
    put(lane.summary, words().laneSummary(...['down', 'claimed', 'unknown', 'excluded'].map((kind) => duration(total(service[kind])))));
    const marks = marksOf(service).filter((mark) => mark.end > from && mark.start < to);
    keyed(lane.plot, marks, (mark) => `${mark.kind} ${mark.start}`, makeMark, (row, mark) => {
      const id = mark.kind === 'down' ? links.get(`${service.id} ${mark.start}`) : undefined;
      showMark(row.node, mark, id, (us) => (Math.min(to, Math.max(from, us)) - from) / (to - from));
    });
  });
}

/** In the order in which they cover each other. */
function marksOf(service) {
  const measured = service.measured ? [service.measured] : [];
  const kinds = { measured, unknown: service.unknown, down: service.down, claimed: service.claimed, excluded: service.excluded };
  return Object.entries(kinds).flatMap(([kind, pairs]) => pairs.map(([start, end]) => ({ service: service.id, kind, start, end })));
}

const makeMark = ({ kind }) => ({ node: make(`${kind === 'down' ? 'a' : 'i'}.mark.${kind}`) });
const MARK_NAMES = { unknown: 'unknown', down: 'outage', claimed: 'legendClaimed', excluded: 'legendExcluded' };

function showMark(node, { service, kind, start, end }, id, place) {
  const name = words()[MARK_NAMES[kind]];
  const title = name && `${name} · ${dateTime(start)} · ${duration(end - start)}`;
  style(node, '--from', place(start).toFixed(6));
  style(node, '--size', (place(end) - place(start)).toFixed(6));
  attr(node, 'title', title);
  attr(node, 'href', id && `#window-${id}`);
  attr(node, 'aria-label', id && `${service} · ${title}`);
}

function makeLane(service) {
  const lane = { name: make('span.lane-name'), plot: make('div.plot'), summary: make('span.hush') };
  lane.node = make('div.lane', { 'data-lane': service.id }, lane.name, lane.summary, lane.plot);
  return lane;
}

/** Ticks at round local times, labelled as densely as there is room for. */
function showTicks(zoom, from, to) {
  const { unit, every } = ZOOMS[zoom];
  const holder = document.querySelector('.ticks');
  const spacing = (holder.clientWidth * unit * SECOND) / (to - from);
  const nth = every.find((n) => n * spacing >= 52) ?? every.at(-1);
  const ticks = [];
  for (let us = snap(from, unit); us < to; us = snap(us + 1.5 * unit * SECOND, unit)) {
    const number = zoom === 'month' ? Number(formatted(us, { day: 'numeric' })) - 1 : Math.round(secondOfDay(us) / unit);
    const fits = number % nth === 0 && ((to - us) / (unit * SECOND)) * spacing > 40;
    const label = zoom === 'month' ? String(number + 1) : hourMinute(us);
    if (us >= from) ticks.push({ us, label: fits ? label : '' });
  }
  keyed(holder, ticks, (tick) => tick.us, () => ({ node: make('span') }), (row, tick) => {
    put(row.node, tick.label);
    attr(row.node, 'data-major', tick.label ? '' : null);
    style(row.node, '--from', ((tick.us - from) / (to - from)).toFixed(6));
  });
}

/** The last round local time before `us`; days are not all of one length. */
function snap(us, unit) {
  const whole = Math.floor(us / SECOND);
  const back = (seconds) => seconds - (secondOfDay(seconds * SECOND) % unit);
  const once = back(whole);
  const twice = secondOfDay(once * SECOND) % unit;
  return (twice > unit / 2 ? once + unit - twice : once - twice) * SECOND;
}

// ---------------------------------------------------------------- the windows

function showWindows(status, windows) {
  const w = words();
  const list = windows ?? [];
  const limit = Math.max(page.listed, list.findIndex((window) => window.id === page.wanted) + 1);
  byId('no-windows').hidden = !windows || list.length > 0;
  byId('more').hidden = list.length <= limit;
  put(byId('more'), w.more(count(list.length - limit)));
  byId('windows-note').hidden = !page.gone;
  put(byId('windows-note'), page.gone ? w.gone : '');
  keyed(byId('windows'), list.slice(0, limit), (window) => window.id, makeWindow, (row, window) => showWindow(row, window, status));
  const wanted = page.wanted && byId(`window-${page.wanted}`);
  if (wanted) {
    page.wanted = null;
    wanted.open = true;
    wanted.scrollIntoView({ block: 'start' });
    wanted.firstElementChild.focus({ preventScroll: true });
  }
}

function makeWindow(window) {
  const row = { kind: make('span.kind'), service: make('span.name'), onset: make('time.onset'), lasts: make('strong.lasts'), status: chip() };
  Object.assign(row, { more: make('span.more-said'), facts: make('dl.facts'), picture: make('div.picture') });
  Object.assign(row, { key: make('ul.key'), note: make('p.note'), words: make('div.words') });
  const summary = make('summary', {}, row.kind, row.service, row.onset, row.lasts, row.status, row.more);
  const panel = make('div.explanation', { 'data-test': 'explanation' }, row.facts, row.picture, row.key, row.note, row.words);
  row.node = make('details', { id: `window-${window.id}`, class: 'window', 'data-window': window.id }, summary, panel);
  row.node.addEventListener('toggle', async () => {
    if (!row.node.open) return;
    history.replaceState(null, '', `#window-${window.id}`);
    await loadStory(window.id);
    show();
  });
  new ResizeObserver(() => row.redraw?.()).observe(row.picture);
  return row;
}

function showWindow(row, window, status) {
  const w = words();
  const end = window.end_us ?? status.frontier_us;
  attr(row.node, 'data-kind', window.kind);
  attr(row.node, 'data-status', window.status !== 'closed' && status.stale ? 'unknown' : window.status);
  put(row.kind, w[window.kind]);
  put(row.service, window.service);
  put(row.onset, dateTime(window.onset_us));
  put(row.lasts, duration(end - window.onset_us));
  put(row.status, window.status !== 'closed' && status.stale ? w.unknown : w[window.status]);
  const detected = window.detected_us && w.detectedAfter(duration(window.detected_us - window.onset_us));
  put(row.more, [detected, w[`ended_${window.ended_by}`], window.claims.join(', ')].filter(Boolean).join(' · '));
  if (row.node.open) showExplanation(row, window);
}

function showExplanation(row, window) {
  const w = words();
  const story = page.stories.get(window.id);
  const instants = ['onset', 'notified', 'detected', 'end'].map((name) => [w[name], window[`${name}_us`]]);
  const facts = instants.filter(([label, us]) => us !== null || label === w.end).map(([label, us]) => [label, us ? dateTime(us) : w.ongoing]);
  const lengths = LENGTHS.filter((field) => window[field] > 0).map((field) => [w[field], duration(window[field])]);
  keyed(row.facts, [...facts, ...lengths], ([label]) => label, makeFact, (fact, [label, value]) => {
    put(fact.label, label);
    put(fact.value, value);
  });
  put(row.note, story?.failed ? w.loadFailed : '');
  if (!story?.samples || (row.drawn === story && row.drawnLang === page.lang)) return;
  [row.drawn, row.drawnLang] = [story, page.lang];
  row.redraw = () => row.picture.replaceChildren(draw(story.samples, window, row.picture.clientWidth));
  row.redraw();
  const left = story.samples.vantages.reduce((sum, lane) => sum + lane.left_out, 0);
  const none = story.samples.vantages.every((lane) => lane.samples.length === 0);
  if (left || none) put(row.note, none ? w.noSamples : w.leftOut(count(left)));
  showKey(row.key);
  row.words.replaceChildren(...story.words.trimEnd().split('\n').map(sentence));
}

const LENGTHS = ['observed_down_us', 'inferred_down_us', 'up_inside_us', 'unknown_inside_us', 'contested_us'];

function makeFact() {
  const fact = { label: make('dt'), value: make('dd') };
  fact.node = make('div', {}, fact.label, fact.value);
  return fact;
}

/** A line of the explanation, its instants in the region's time. */
function sentence(line) {
  const depth = line.startsWith('    ') ? 3 : line.startsWith('  ') ? 2 : line.startsWith('- ') ? 1 : 0;
  const parts = line.trim().replace(/^[-·] /, '').split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/);
  return make(`p.depth-${depth}`, {}, ...parts.map((part, index) => (index % 2 ? instant(part) : part)));
}

function instant(text) {
  const ms = Date.parse(text);
  const fraction = formatted(ms * 1000, { fractionalSecondDigits: 3 });
  return make('time', { datetime: text, title: text }, `${clock(ms * 1000)}${page.lang === 'fr' ? ',' : '.'}${fraction}`);
}

// ---------------------------------------------------------------- the picture of a window

/** Ticks of different shape, so that colour is never all there is. */
const SHAPES = {
  ok: (x, y) => `M${x} ${y - 5}v10`,
  fail: (x, y) => `M${x - 4} ${y - 4}l8 8m0-8l-8 8`,
  void: (x, y) => `M${x} ${y - 4}l4 4-4 4-4-4z`,
};

function showKey(list) {
  const w = words();
  const icon = (...children) => make('svg', { viewBox: '0 0 24 16', 'aria-hidden': 'true' }, ...children);
  const tick = (outcome) => icon(make(`path.tick.${outcome}`, { d: SHAPES[outcome](12, 8) }));
  const block = (kind) => icon(make(`rect.${kind}`, { x: 2, y: kind === 'gate' ? 0 : 3, width: 20, height: kind === 'gate' ? 16 : 10 }));
  const ticks = [[tick('ok'), w.tickOk], [tick('fail'), w.tickFail], [tick('void'), w.tickVoid]];
  const entries = [...ticks, [block('gate'), w.gate], [block('q-down'), w.quorumDown], [block('q-unknown'), w.quorumUnknown]];
  list.replaceChildren(...entries.map(([svg, label]) => make('li', {}, svg, label)));
}

function draw(samples, window, width) {
  const end = window.end_us ?? samples.to_us;
  const wide = width > 620;
  const [left, lane, top] = wide ? [176, 24, 46] : [6, 40, 46];
  const { from_us: from, to_us: to } = samples;
  const scale = (width - left - 6) / (to - from);
  const x = (us) => Math.round((left + (Math.min(to, Math.max(from, us)) - from) * scale) * 10) / 10;
  const lanes = samples.targets.flatMap((target) => [...samples.vantages.filter((one) => one.target === target.id), { quorum: target }]);
  const height = top + lanes.length * lane + 22;
  const label = words().picture(window.service, clock(from), clock(to));
  const picture = make('svg', { role: 'img', width, height, viewBox: `0 0 ${width} ${height}`, 'aria-label': label });
  picture.append(make('rect.band', { ...extent(x, window.onset_us, end), y: top - 8, height: height - top - 12 }));
  lanes.forEach((one, index) => {
    const y = top + index * lane + (wide ? lane / 2 : lane - 14);
    const marks = one.quorum ? quorumMarks(one.quorum, x, y) : sampleMarks(one, x, y);
    picture.append(make('line.rail', { x1: x(from), x2: x(to), y1: y, y2: y }), ...marks, laneLabel(one, wide ? left - 14 : null, y));
  });
  picture.append(...moments(window, end, x, top - 8, height - 20, width), ...clockLabels(from, to, x, height - 5));
  return picture;
}

/** Where a stretch of time lies; the shortest can still be seen. */
const extent = (x, start, end) => ({ x: x(start), width: Math.max(2, x(end) - x(start)) });

/** To the left of the lane if it ends at `right`, else above it. */
function laneLabel(one, right, y) {
  const text = one.quorum ? `${one.quorum.id} · ${words().quorum(one.quorum.quorum, one.quorum.of)}` : `${one.target} · ${one.vantage}`;
  const place = right ? { x: right, y: y + 4, 'text-anchor': 'end' } : { x: 6, y: y - 13 };
  return make(one.quorum ? 'text.lane-label.quorum' : 'text.lane-label', place, clip(text, right ? 24 : 60), make('title', {}, text));
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most / 2 - 1)}…${text.slice(-most / 2)}` : text);

function sampleMarks(one, x, y) {
  const gates = one.gates.map(([start, end]) => make('rect.gate', { ...extent(x, start, end), y: y - 9, height: 18 }));
  const ticks = ['ok', 'void', 'fail'].map((outcome) => {
    const places = [...new Set(one.samples.filter((sample) => sample.outcome === outcome).map((sample) => x(sample.stamp_us)))];
    return make(`path.tick.${outcome}`, { d: places.map((place) => SHAPES[outcome](place, y)).join('') });
  });
  return [...gates, ...ticks];
}

function quorumMarks(quorum, x, y) {
  const block = (kind) => ([start, end]) => make(`rect.${kind}`, { ...extent(x, start, end), y: y - 6, height: 12 });
  return [...quorum.unknown.map(block('q-unknown')), ...quorum.down.map(block('q-down'))];
}

/** The instants of a window; a label that would cover another goes a row higher. */
function moments(window, end, x, top, bottom, width) {
  const w = words();
  const { onset_us, notified_us, detected_us } = window;
  const instants = Object.entries({ onset: onset_us, notified: notified_us, detected: detected_us, end });
  const taken = [-Infinity, -Infinity, -Infinity];
  return instants.filter(([, us]) => us !== null).sort((one, other) => one[1] - other[1]).flatMap(([name, us]) => {
    const text = name === 'end' && window.end_us === null ? w.now : w[name];
    const size = text.length * 8;
    const before = (name === 'onset' && x(us) > size + 6) || text === w.now;
    const start = before ? x(us) - size - 4 : Math.min(x(us) + 4, width - size - 2);
    const row = Math.max(0, taken.findIndex((edge) => edge < start));
    taken[row] = start + size + 6;
    const y = top - 2 - row * 14;
    const line = make(`line.moment.${name}`, { x1: x(us), x2: x(us), y1: y - 8, y2: bottom });
    return [line, make('text.moment-label', { x: start, y }, text)];
  });
}

function clockLabels(from, to, x, y) {
  const places = [[from, 'start'], [(from + to) / 2, 'middle'], [to, 'end']];
  return places.map(([us, anchor]) => make('text.clock-label', { x: x(us), y, 'text-anchor': anchor }, clock(us)));
}

// ---------------------------------------------------------------- what people do

function chooseLanguage(lang) {
  page.lang = lang === 'fr' ? 'fr' : 'en';
  document.documentElement.lang = page.lang;
  const w = words();
  document.querySelectorAll('[data-i18n]').forEach((node) => put(node, w[node.dataset.i18n]));
  document.querySelectorAll('[data-i18n-label]').forEach((node) => attr(node, 'aria-label', w[node.dataset.i18nLabel]));
  document.querySelectorAll('[data-lang]').forEach((button) => attr(button, 'aria-pressed', button.dataset.lang === page.lang));
}

function chooseTheme(theme) {
  page.theme = theme;
  attr(document.documentElement, 'data-theme', theme);
  const buttons = document.querySelectorAll('[data-theme-choice]');
  buttons.forEach((button) => attr(button, 'aria-pressed', button.dataset.themeChoice === theme));
}

function onClick(selector, act) {
  document.querySelectorAll(selector).forEach((button) => button.addEventListener('click', () => {
    act(button);
    show();
  }));
}

/** Asks for what the choice needs without waiting for the next beat. */
function hurry() {
  asked = 0;
  if (page.status) attend();
}

/** `#window-<id>` opens that window, in whatever month it is. */
async function followLink() {
  const id = /^#window-([0-9a-f-]{36})$/.exec(location.hash)?.[1];
  if (!id) return;
  page.gone = false;
  page.wanted = id;
  if (byId(`window-${id}`)) return show();
  try {
    const window = await get(`windows/${id}`);
    const status = page.status ?? (page.status = await get('status'));
    const month = monthOf(window.onset_us);
    page.month = month === status.month ? null : month;
    page.back = 0;
  } catch (error) {
    if (error.status === 404) [page.wanted, page.gone] = [null, true];
  }
  show();
  hurry();
}

function start() {
  chooseLanguage(page.lang);
  chooseTheme(page.theme);
  onClick('[data-lang]', (button) => {
    remember('lang', button.dataset.lang);
    chooseLanguage(button.dataset.lang);
    hurry();
  });
  onClick('[data-theme-choice]', (button) => {
    remember('theme', button.dataset.themeChoice);
    chooseTheme(button.dataset.themeChoice);
  });
  onClick('[data-zoom]', (button) => [page.zoom, page.back] = [button.dataset.zoom, 0]);
  onClick('#earlier', () => page.back += 1);
  onClick('#later', () => page.back -= 1);
  onClick('#more', () => page.listed += PAGEFUL);
  byId('month-picker').addEventListener('change', (event) => {
    const { value } = event.target;
    [page.month, page.back, page.listed] = [value === page.status?.month ? null : value, 0, PAGEFUL];
    show();
    hurry();
  });
  document.addEventListener('visibilitychange', () => document.hidden || watch());
  addEventListener('hashchange', followLink);
  addEventListener('resize', show);
  listen();
  followLink();
  show();
  setInterval(watch, 1_000);
}

start();
