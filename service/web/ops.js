// The operations page: reads the admin routes every two seconds, and carries out what is asked.

import { json } from './api.js';
import { confirm, whyField } from './dialogs.js';
import { h, setAttribute, setText, toast, watchTopBar } from './dom.js';
import { ago, approvalOf, percent, shortVersion } from './format.js';
import { askForKey, withKey } from './keys.js';
import { watchExplain } from './ops-explain.js';
import { canKill, drawCanary, drawJudge, kill, startCanary, stopCanary } from './ops-rollout.js';
import {
  drawAudit, drawChart, drawInterval, drawReplicas, drawRuns, drawVersions, mayGoLive,
} from './ops-tables.js';

const REFRESH_MS = 2000;
const WORKER_SILENT_S = 15;
const SCOPE = { scope: 'admin' };

const byId = (id) => document.getElementById(id);
const state = { rollout: {}, versions: [], paused: false, request: null, seen: 0, asking: false, older: [], next: null };

const rowsOf = (answer) => (Array.isArray(answer) ? answer : answer?.data ?? []);

// Reading

async function readAll() {
  const [rollout, versions, updates, audit] = await Promise.all(
    ['rollout', 'versions', 'updates', 'audit'].map((name) => json('GET', `/admin/${name}`)));
  if (state.older.length === 0) state.next = audit.next ?? null;
  return { rollout, versions: rowsOf(versions), updates, runs: rowsOf(updates), audit: joined(rowsOf(audit)) };
}

/** The newest entries of the audit, and the older ones that were asked for. */
function joined(newest) {
  const known = new Set(newest.map((event) => event.id));
  return [...newest, ...state.older.filter((event) => !known.has(event.id))];
}

async function showOlder() {
  const query = new URLSearchParams({ before: state.next });
  try {
    const found = await withKey(() => json('GET', `/admin/audit?${query}`), SCOPE);
    // What was on the first page may leave it before the next refresh.
    state.older = [...state.audit, ...found.data];
    state.next = found.next;
  } catch (error) {
    toast(error.message);
  }
  await refresh();
}

async function refresh({ ask = true } = {}) {
  if (state.asking) return;
  state.asking = true;
  try {
    const found = await (ask ? withKey(readAll, SCOPE) : readAll());
    Object.assign(state, found, { seen: Date.now() / 1000 });
    draw(found);
    showProblem(found.rollout.stale ? { message: 'Redis is away: this is what the replica last knew.' } : null);
    await hearAnswer();
  } catch (error) {
    showProblem(error);
  } finally {
    state.asking = false;
    drawFreshness();
  }
}

/** Tell what the worker answered to the request for an update, once it has. */
async function hearAnswer() {
  if (!state.request) return;
  const request = await json('GET', `/admin/updates/requests/${encodeURIComponent(state.request)}`);
  if (request.state !== 'answered') return;
  state.request = null;
  toast(request.answer || `The update is run #${request.run}.`);
}

function showProblem(error) {
  const node = byId('problem');
  node.hidden = !error;
  if (!error) return;
  const needsKey = error.status === 401 || error.status === 403;
  const text = needsKey ? 'This page needs an API key with the scope “admin”.' : error.message;
  if (node.firstChild?.textContent === text) return;
  node.replaceChildren(h('span', {}, text));
  if (needsKey) node.append(h('button', { type: 'button', className: 'button small', onclick: enterKey }, 'Enter a key'));
}

function drawFreshness() {
  const node = byId('fresh');
  const age = Date.now() / 1000 - state.seen;
  const fresh = state.seen > 0 && age < 6;
  setAttribute(node, 'class', `fresh ${fresh ? 'good' : 'warn'}`);
  setText(node, fresh ? 'Up to date' : state.seen ? `As of ${ago(state.seen)}` : 'Waiting for the server');
}

// Drawing

function draw({ rollout, versions, updates, runs, audit }) {
  drawLive(rollout, versions);
  drawLearning(updates, runs);
  drawCanary(rollout);
  drawJudge(rollout.judgement);
  drawReplicas(rollout.replicas ?? [], rollout.generation);
  drawChart(versions);
  drawVersions(versions, rollout, { onActivate: activate, onTry: (version) => startCanary(version, state.rollout, act) });
  drawRuns(runs, versions);
  drawAudit(audit);
  byId('audit-more').hidden = !state.next;
}

function drawLive(rollout, versions) {
  const live = versions.find((row) => row.version === rollout.live);
  const interval = live && approvalOf(live);
  setText(byId('live'), shortVersion(rollout.live));
  setAttribute(byId('live'), 'title', rollout.live);
  setText(byId('live-detail'), liveDetail(rollout));
  byId('kill').disabled = !canKill(rollout);
  byId('rollback').disabled = !rollout.previous && rollbackTargets().length === 0;
  setText(byId('approval'), interval ? percent(interval.share) : '–');
  setText(byId('approval-detail'), interval
    ? `${live.up} up, ${live.down} down; ${percent(interval.low)} to ${percent(interval.high)}` : 'no votes on it yet');
  drawInterval(byId('approval-bar'), interval);
}

function liveDetail(rollout) {
  const confirmed = rollout.confirmed ?? 'base';
  const standing = confirmed === rollout.live ? 'confirmed' : `compared with ${shortVersion(confirmed)}`;
  return rollout.previous ? `${standing} · previous ${shortVersion(rollout.previous)}` : standing;
}

function drawLearning(updates, runs) {
  const learning = updates?.learning ?? {};
  const paused = learning.paused === true;
  const open = runs.find((run) => run.state === 'claimed' || run.state === 'committed');
  const waiting = learning.waiting_votes ?? null;
  const needed = learning.min_votes ?? null;
  const sinceLook = learning.seconds_since_last_look ?? null;
  setText(byId('learning'), paused ? 'Paused' : open ? `Run #${open.number}` : 'On');
  const parts = [];
  if (open) parts.push(open.state === 'claimed' ? 'learning now' : 'at the gate');
  if (waiting !== null) parts.push(needed ? `${waiting} of ${needed} votes wait` : `${waiting} votes wait`);
  if (sinceLook === null || sinceLook > WORKER_SILENT_S) parts.push('no worker reports');
  setText(byId('learning-detail'), parts.join(' · ') || (paused ? 'votes are kept until it goes on' : 'waiting for votes'));
  const bar = byId('waiting');
  bar.hidden = waiting === null || !needed;
  if (!bar.hidden) {
    bar.max = needed;
    bar.value = Math.min(waiting, needed);
  }
  state.paused = paused;
  byId('pause').disabled = false;
  setText(byId('pause'), paused ? 'Resume' : 'Pause');
  byId('update-now').disabled = false;
}

// Acting

async function act(work, done) {
  try {
    toast(done(await withKey(work, SCOPE)));
  } catch (error) {
    toast(error.message);
  }
  await refresh();
}

const reasonOf = (answer) => (answer.why?.trim() ? { why: answer.why.trim() } : {});

async function activate(version) {
  const seen = state.rollout.live;
  const answer = await confirm({
    title: `Make ${shortVersion(version)} live?`,
    text: `It takes over from ${shortVersion(seen)} for all new requests. Replies under way end with the version that they began with.`,
    action: 'Activate',
    fields: [whyField()],
  });
  if (!answer) return;
  const body = { version, expected_live: seen, ...reasonOf(answer) };
  await act(() => json('POST', '/admin/rollout/activate', { body }), () => `${shortVersion(version)} is live.`);
}

function rollbackTargets() {
  return state.versions.filter((row) => mayGoLive(row) && row.version !== state.rollout.live);
}

async function rollback() {
  const { live, previous } = state.rollout;
  const targets = rollbackTargets().map((row) => row.version).filter((version) => version !== previous);
  const select = h('select', { name: 'to' },
    previous ? h('option', { value: '' }, `${shortVersion(previous)} (the one before)`) : null,
    ...targets.map((version) => h('option', { value: version }, shortVersion(version))));
  const answer = await confirm({
    title: `Roll back from ${shortVersion(live)}?`,
    text: `The version below serves all new requests. ${shortVersion(live)}, and what it was built on since, is marked as rolled back, and the votes that it learned wait again.`,
    action: 'Roll back',
    danger: true,
    fields: [h('label', { className: 'field' }, 'To', select), whyField()],
  });
  if (!answer) return;
  const body = { ...(answer.to ? { to: answer.to } : {}), ...reasonOf(answer) };
  await act(() => json('POST', '/admin/rollout/rollback', { body }), (rollout) => `Rolled back to ${shortVersion(rollout?.live ?? (answer.to || previous))}.`);
}

async function updateNow() {
  await act(() => json('POST', '/admin/updates'), (request) => {
    state.request = request?.id ?? null;
    return 'An update was asked for. The workers answer within seconds.';
  });
}

async function togglePause() {
  const word = state.paused ? 'resume' : 'pause';
  await act(() => json('POST', `/admin/learning/${word}`), () => (word === 'pause' ? 'Learning is paused; votes are kept.' : 'Learning goes on.'));
}

async function enterKey() {
  if (await askForKey(SCOPE)) await refresh();
}

byId('rollback').addEventListener('click', rollback);
byId('kill').addEventListener('click', () => kill(act));
byId('canary-stop').addEventListener('click', () => stopCanary(state.rollout, act));
byId('canary-share').addEventListener('click', () => startCanary(state.rollout.canary, state.rollout, act));
byId('audit-more').addEventListener('click', showOlder);
watchExplain(byId('explain'), byId('explained'), async (work) => {
  try {
    return await withKey(work, SCOPE);
  } catch (error) {
    toast(error.message);
    return null;
  }
});
byId('update-now').addEventListener('click', updateNow);
byId('pause').addEventListener('click', togglePause);
byId('enter-key').addEventListener('click', enterKey);

setInterval(() => {
  drawFreshness();
  if (!document.hidden) refresh({ ask: false });
}, REFRESH_MS);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh({ ask: false }); });

watchTopBar();
drawFreshness();
refresh();
