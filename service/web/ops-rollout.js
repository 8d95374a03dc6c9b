// The cards and questions of the rollout: the canary, the judge's verdict, and the kill switch.

import { json } from './api.js';
import { confirm, whyField } from './dialogs.js';
import { h, reconcile, setAttribute, setText } from './dom.js';
import { ago, percent, shortVersion } from './format.js';

const VERDICTS = {
  idle: ['Nothing to judge', ''], hold: ['Undecided', ''], promote: ['Liked no less', 'good'], roll_back: ['Liked less', 'bad'],
};
const JUDGE_SILENT_S = 120;

const byId = (id) => document.getElementById(id);
const base = 'base';

/** Draw the card of the canary. */
export function drawCanary(rollout) {
  const { canary, fraction } = rollout;
  setText(byId('canary'), canary ? shortVersion(canary) : 'None');
  setAttribute(byId('canary'), 'title', canary);
  setText(byId('canary-detail'), canary
    ? `for ${percent(fraction)} of the users, since ${ago(rollout.canary_since)}`
    : 'every user gets the live version');
  byId('canary-stop').hidden = !canary;
  byId('canary-share').hidden = !canary;
}

/** Draw the card of what the judge last found. */
export function drawJudge(judgement) {
  const [title, tone] = VERDICTS[judgement?.state] ?? ['–', ''];
  setText(byId('verdict'), title);
  setAttribute(byId('verdict'), 'class', `big ${tone}`.trim());
  setText(byId('verdict-detail'), judgement ? aboutVerdict(judgement) : 'it has not run yet');
  reconcile(byId('verdict-reasons'), judgement?.reasons ?? [], {
    key: (reason) => reason,
    create: (reason) => h('li', {}, reason),
    update: () => {},
  });
}

function aboutVerdict(judgement) {
  const parts = [];
  if (judgement.test.length) parts.push(`${shortVersion(judgement.test[0])} against ${shortVersion(judgement.control[0])}`);
  if (judgement.votes_needed !== null) parts.push(`about ${judgement.votes_needed} more votes`);
  const silent = Date.now() / 1000 - judgement.at > JUDGE_SILENT_S;
  parts.push(silent ? `the judge last ran ${ago(judgement.at)}` : ago(judgement.at));
  return parts.join(' · ');
}

/** Whether the kill switch would still change anything. */
export function canKill(rollout) {
  return Boolean(rollout.live) && (rollout.live !== base || Boolean(rollout.canary) || rollout.paused === false);
}

const reasonOf = (answer) => (answer.why?.trim() ? { why: answer.why.trim() } : {});

function shareField(value) {
  return h('label', { className: 'field' }, 'Share of the users, in percent',
    h('input', { name: 'percent', type: 'number', min: '0.1', max: '100', step: 'any', value: String(value), required: true }));
}

/** Ask for a share and start a canary, or change its share. */
export async function startCanary(version, rollout, act) {
  const again = rollout.canary === version;
  const answer = await confirm({
    title: again ? `How many get ${shortVersion(version)}?` : `Try ${shortVersion(version)} on some users?`,
    text: again
      ? 'Who had it keeps it when the share is raised.'
      : `They stay on it until it is promoted, stopped or rolled back. The others keep ${shortVersion(rollout.live)}. The judge compares the two, and no update starts meanwhile.`,
    action: again ? 'Change the share' : 'Start the canary',
    fields: [shareField(again ? Math.round(rollout.fraction * 1000) / 10 : 10), whyField()],
  });
  if (!answer) return;
  const fraction = Number(answer.percent) / 100;
  const body = { version, fraction, expected_live: rollout.live, ...reasonOf(answer) };
  await act(() => json('POST', '/admin/rollout/canary', { body }),
    () => `${shortVersion(version)} is the canary for ${percent(fraction)} of the users.`);
}

/** Ask, and end the canary without a verdict. */
export async function stopCanary(rollout, act) {
  const answer = await confirm({
    title: `Stop the canary ${shortVersion(rollout.canary)}?`,
    text: `Its users go back to ${shortVersion(rollout.live)}. The learner does not promote that version afterwards; you can start or activate it again.`,
    action: 'Stop the canary',
    danger: true,
    fields: [whyField()],
  });
  if (!answer) return;
  const query = new URLSearchParams({ expected: rollout.canary, ...reasonOf(answer) });
  await act(() => json('DELETE', `/admin/rollout/canary?${query}`), () => 'The canary is stopped.');
}

/** Ask, and serve the base to everyone. */
export async function kill(act) {
  const answer = await confirm({
    title: 'Serve the base to everyone?',
    text: 'All at once: the base model answers all new requests on every replica, the canary ends, and learning is paused. Votes and versions are kept. To go back, activate a version and resume learning.',
    action: 'Serve the base',
    danger: true,
    fields: [whyField()],
  });
  if (!answer) return;
  await act(() => json('POST', '/admin/rollout/kill', { body: reasonOf(answer) }),
    () => 'The base serves everyone; learning is paused.');
}
