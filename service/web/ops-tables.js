// The lists of the operations page; each draws rows in place, so that a refresh never flickers.

import { h, icon, reconcile, setAttribute, setText } from './dom.js';
import { ago, approvalOf, dateTime, number, percent, shortVersion } from './format.js';

const VERSION_TONES = {
  live: 'good', canary: 'warn', candidate: '', approved: '', retired: '', rejected: 'bad', rolled_back: 'warn',
};
const RUN_TONES = {
  approved: 'good', claimed: 'warn', committed: 'warn', rejected: 'bad', quarantined: 'bad',
};
const MAY_BE_TRIED = new Set(['approved', 'retired', 'rolled_back']);
const MAY_GO_LIVE = new Set(['approved', 'canary', 'retired', 'rolled_back']);

const AUDIT_TONES = {
  rollback: 'warn', reject_canary: 'warn', reject: 'warn', kill: 'bad', confirm: 'good', promote_canary: 'good',
};

const byId = (id) => document.getElementById(id);
const words = (state) => String(state ?? 'unknown').replaceAll('_', ' ');

/** Whether an operator may make this version live. */
export const mayGoLive = (row) => MAY_GO_LIVE.has(row.state);

/** Whether it may be the canary: there is one at a time, and it is compared with the others. */
function mayBeTried(row, rollout) {
  const compared = ['base', rollout.live, rollout.confirmed];
  return MAY_BE_TRIED.has(row.state) && !rollout.canary && !compared.includes(row.version);
}

function setChip(node, text, tone) {
  setText(node, text);
  setAttribute(node, 'class', `chip ${tone ?? ''}`.trim());
}

function setAge(node, seconds) {
  setText(node, ago(seconds));
  setAttribute(node, 'title', dateTime(seconds));
}

/** Draw an interval on a bar from 0 to 100 %. */
export function drawInterval(node, interval) {
  if (!node.firstChild) node.append(h('span', { className: 'band' }), h('span', { className: 'mark' }));
  node.hidden = !interval;
  if (!interval) return;
  const [band, mark] = node.children;
  band.style.left = `${interval.low * 100}%`;
  band.style.width = `${(interval.high - interval.low) * 100}%`;
  mark.style.left = `${interval.share * 100}%`;
  setAttribute(node, 'title', `${percent(interval.low)} to ${percent(interval.high)} with 95 % confidence`);
}

function cells(...classes) {
  return classes.map((className) => h('td', { className }));
}

function versionRow(row, { onActivate, onTry }) {
  const [name, state, approval, up, down, replies, kl, parent, age, by, actions] = cells(
    'strong', '', 'approval-col', 'num minor', 'num minor', 'num minor', 'num minor', 'muted minor', 'muted minor', 'muted minor by', 'end');
  name.append(h('span'), h('small', { className: 'muted mono' }));
  state.append(h('span', { className: 'chip' }), h('span', { className: 'chip role', hidden: true }), h('small', { className: 'reason' }));
  approval.append(h('span', { className: 'share' }), h('div', { className: 'interval' }));
  actions.append(h('div', { className: 'row-actions' },
    h('button', { type: 'button', className: 'button small', onclick: () => onTry(row.version) }, 'Try'),
    h('button', { type: 'button', className: 'button small', onclick: () => onActivate(row.version) }, 'Activate')));
  return h('tr', {}, name, state, approval, up, down, replies, kl, parent, age, by, actions);
}

function fillVersion(tr, row, rollout) {
  const [name, state, approval, up, down, replies, kl, parent, age, by, actions] = tr.children;
  const interval = approvalOf(row);
  setText(name.firstChild, shortVersion(row.version));
  setText(name.lastChild, String(row.version).split('-')[1] ?? 'frozen');
  setChip(state.firstChild, words(row.state), VERSION_TONES[row.state]);
  const confirmed = row.version === (rollout.confirmed ?? 'base');
  setChip(state.children[1], 'confirmed', 'role');
  state.children[1].hidden = !confirmed;
  setText(state.lastChild, row.reason);
  setText(approval.firstChild, interval ? percent(interval.share) : 'no votes');
  setAttribute(approval.firstChild, 'class', interval ? 'share' : 'share muted');
  drawInterval(approval.lastChild, interval);
  setText(up, row.up ?? 0);
  setText(down, row.down ?? 0);
  setText(replies, row.completions ?? '–');
  setText(kl, number(row.kl));
  setText(parent, row.parent ? shortVersion(row.parent) : '–');
  setAge(age, row.created_at);
  setText(by, row.changed_by ?? '–');
  setAttribute(by, 'title', row.changed_at ? `changed ${dateTime(row.changed_at)}` : null);
  const [tryIt, activate] = actions.firstChild.children;
  tryIt.hidden = !mayBeTried(row, rollout);
  setAttribute(tryIt, 'aria-label', `Try ${shortVersion(row.version)} on some users`);
  activate.hidden = !mayGoLive(row);
  setAttribute(activate, 'aria-label', `Activate ${shortVersion(row.version)}`);
  tr.classList.toggle('live', row.state === 'live');
}

/** Draw the versions table. */
export function drawVersions(rows, rollout, actions) {
  reconcile(byId('versions'), rows, {
    key: (row) => row.version,
    create: (row) => versionRow(row, actions),
    update: (tr, row) => fillVersion(tr, row, rollout),
  });
}

/** Seconds from the claim to the gate's verdict; null while the run is open. */
function secondsOf(run) {
  return run.finished_at && run.claimed_at ? run.finished_at - run.claimed_at : null;
}

function flatten(value, path = '') {
  if (value === null || typeof value !== 'object') {
    return [[path, typeof value === 'number' ? number(value, 5) : String(value)]];
  }
  if (Array.isArray(value)) return [[path, value.map((each) => (typeof each === 'number' ? number(each, 4) : JSON.stringify(each))).join(', ')]];
  return Object.entries(value).flatMap(([key, inner]) => flatten(inner, path ? `${path}.${key}` : key));
}

/** One line for each check of the gate. */
function gateLines(figures) {
  const checks = Array.isArray(figures?.checks) ? figures.checks : [];
  return checks.map((check) => [
    `gate: ${check.name}`,
    `${number(check.value)} (bound ${number(check.bound)}) ${check.passed ? 'passed' : check.blocking === false ? 'failed, but only warns' : 'failed'}`,
  ]);
}

function runGroup(run) {
  const tds = cells('strong', '', 'num', 'num', 'num minor', 'num minor', 'num minor', 'muted', 'muted', 'end');
  const report = h('td', { colSpan: tds.length }, h('p', { className: 'reason' }), h('dl', { className: 'report' }));
  const detail = h('tr', { className: 'detail', hidden: true, id: `run-${run.number}` }, report);
  const expand = h('button', {
    type: 'button', className: 'quiet small expand', 'aria-expanded': 'false', 'aria-controls': detail.id,
    onclick: () => {
      detail.hidden = !detail.hidden;
      expand.setAttribute('aria-expanded', String(!detail.hidden));
    },
  }, 'Report', icon('chevron'));
  tds[1].append(h('span', { className: 'chip' }), h('small', { className: 'reason' }));
  tds[9].append(expand);
  return h('tbody', {}, h('tr', {}, ...tds), detail);
}

function fillRun(tbody, run, figures) {
  const [tr, detail] = tbody.children;
  const report = run.report ?? {};
  const texts = [
    `#${run.number}`, null, run.votes ?? '–', number(report.kl_per_reply), number(report.clip_fraction),
    number(report.loss_last), number(secondsOf(run)), run.version ? shortVersion(run.version) : '–',
  ];
  texts.forEach((text, i) => { if (text !== null) setText(tr.children[i], text); });
  setChip(tr.children[1].firstChild, words(run.state), RUN_TONES[run.state]);
  setText(tr.children[1].lastChild, run.reason ?? run.doing);
  setAge(tr.children[8], run.finished_at ?? run.claimed_at);
  const [reason, list] = detail.firstChild.children;
  setText(reason, run.attempts > 1 ? `Took ${run.attempts} attempts.` : '');
  reason.hidden = !reason.textContent;
  const { practice_vote_ids: _, ...told } = report; // a list for `explain`
  const rows = [...flatten({ parent: run.parent, ...told }), ...gateLines(figures)];
  reconcile(list, rows, {
    key: ([name]) => name,
    create: ([name]) => h('div', {}, h('dt', {}, name), h('dd')),
    update: (node, [, text]) => setText(node.lastChild, text),
  });
}

/** Draw the table of update runs; each run is a tbody with its row and its folded report. */
export function drawRuns(runs, versions) {
  const figures = new Map(versions.map((row) => [row.version, row.figures]));
  const table = byId('runs');
  const head = table.tHead;
  head.dataset.key = 'head';
  reconcile(table, [null, ...runs], {
    key: (run) => (run ? run.number : 'head'),
    create: runGroup,
    update: (node, run) => { if (run) fillRun(node, run, figures.get(run.version)); },
  });
  byId('runs-none').hidden = runs.length > 0;
  table.hidden = runs.length === 0;
}

/** Draw the audit list. */
export function drawAudit(events) {
  reconcile(byId('audit'), events, {
    key: (event) => event.id,
    create: () => h('li', {}, h('span', { className: 'chip' }), h('span', { className: 'what' }), h('span', { className: 'muted when' })),
    update: (node, event) => {
      const [action, what, when] = node.children;
      setChip(action, words(event.action), AUDIT_TONES[event.action] ?? '');
      const move = event.old && event.new && event.old !== event.new
        ? `${shortVersion(event.old)} → ${shortVersion(event.new)}` : shortVersion(event.new || event.old || '–');
      setText(what, `${move} by ${event.who ?? 'unknown'}${event.why ? `: ${event.why}` : ''}`);
      setAge(when, event.at);
    },
  });
  byId('audit-none').hidden = events.length > 0;
}

/** Draw the replicas: which serve all that they should, and what is wrong with the others. */
export function drawReplicas(replicas, generation) {
  const behind = replicas.filter((replica) => replica.generation < generation);
  setText(byId('replica-count'), replicas.length === 0 ? 'None' : `${replicas.length - behind.length} of ${replicas.length}`);
  reconcile(byId('replicas'), replicas, {
    key: (replica) => replica.id,
    create: () => h('li', {}, h('span', { className: 'dot' }), h('span', { className: 'mono' }), h('span', { className: 'muted' }), h('small', { className: 'reason' })),
    update: (node, replica) => {
      const [dot, id, serving, problem] = node.children;
      const has = replica.generation >= generation;
      setAttribute(dot, 'class', `dot ${replica.problem ? 'bad' : has ? 'good' : 'warn'}`);
      setText(id, replica.id);
      setAttribute(id, 'title', replica.url || null);
      setText(serving, [replica.serving, replica.canary].filter(Boolean).map(shortVersion).join(' + '));
      setAttribute(serving, 'title', `seen ${ago(replica.seen_at)}`);
      setText(problem, replica.problem);
    },
  });
}

/** Draw the chart: one column for each version with votes, oldest first, its interval and share. */
export function drawChart(rows) {
  const shown = rows
    .map((row) => ({ ...row, interval: approvalOf(row) }))
    .filter((row) => row.interval)
    .sort((a, b) => sequence(a.version) - sequence(b.version))
    .slice(-32);
  const chart = byId('chart');
  chart.hidden = shown.length === 0;
  byId('chart-none').hidden = shown.length > 0;
  reconcile(chart, shown, {
    key: (row) => row.version,
    create: () => h('div', { className: 'column' },
      h('div', { className: 'plot' }, h('span', { className: 'whisker' }), h('span', { className: 'point' }), h('span', { className: 'value' })),
      h('span', { className: 'tick' })),
    update: fillColumn,
  });
}

const sequence = (version) => (version === 'base' ? 0 : Number.parseInt(version.slice(1, 7), 10) || 0);

function fillColumn(node, row) {
  const [plot, tick] = node.children;
  const [whisker, point, value] = plot.children;
  whisker.style.bottom = `${row.interval.low * 100}%`;
  whisker.style.height = `${(row.interval.high - row.interval.low) * 100}%`;
  point.style.bottom = `${row.interval.share * 100}%`;
  value.style.bottom = `${row.interval.high * 100}%`;
  setText(value, percent(row.interval.share));
  setText(tick, row.version === 'base' ? 'base' : `v${sequence(row.version)}`);
  setAttribute(node, 'title', `${row.version}: ${percent(row.interval.share)} of ${row.interval.votes} votes`);
  node.classList.toggle('live', row.state === 'live');
}
