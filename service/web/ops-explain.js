// Explains a reply: what wrote it, which votes made that, and what learned from its own vote.

import { json } from './api.js';
import { h } from './dom.js';
import { ago, shortVersion } from './format.js';

const words = (state) => String(state ?? 'unknown').replaceAll('_', ' ');

/** Wire the form up; `ask` runs a request and shows its failure. */
export function watchExplain(form, result, ask) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const id = new FormData(form).get('completion').trim();
    if (!id) return;
    const found = await ask(() => json('GET', `/admin/explain/${encodeURIComponent(id)}`));
    result.replaceChildren(...(found ? draw(found) : []));
  });
}

function draw(found) {
  const nodes = [h('p', { className: 'strong' }, origin(found))];
  if (found.made) nodes.push(...drawMade(found.made));
  nodes.push(h('p', {}, vote(found)), learned(found));
  return nodes;
}

function origin(found) {
  if (found.by_base) return 'The base wrote this reply, so no vote had a part in it.';
  if (!found.version) return 'The reply has expired or was deleted, so the version that wrote it is no longer known.';
  return `${shortVersion(found.version)} wrote this reply${found.created_at ? `, ${ago(found.created_at)}` : ''}.`;
}

function drawMade(made) {
  const steps = made.chain.map((step) => h('li', {},
    h('span', { className: 'mono' }, step.version), ' ',
    h('span', { className: 'chip' }, words(step.state)), ' ',
    step.run === null ? 'imported' : `run ${step.run}: ${step.votes} votes, ${step.up} up and ${step.down} down`));
  if (!made.whole) steps.push(h('li', { className: 'muted' }, 'and so on'));
  const votes = made.votes.map((each) => h('li', {},
    h('span', { className: 'mono' }, each.completion_id), ` ${each.score > 0 ? '+' : ''}${each.score}`,
    each.stands ? '' : h('span', { className: 'muted' }, ' was changed or withdrawn since, or waits again')));
  return [
    h('p', { className: 'muted' }, 'It is built on these versions, newest first:'),
    h('ol', { className: 'trace' }, ...steps),
    votes.length
      ? h('details', {}, h('summary', {}, `The ${votes.length} votes of its own run`), h('ul', { className: 'trace' }, ...votes))
      : h('p', { className: 'muted' }, 'This version was imported, so no vote here made it.'),
  ];
}

function vote({ vote: said, withdrawn }) {
  if (!said) return withdrawn ? 'The vote on this reply was withdrawn.' : 'This reply has no vote.';
  const what = said.thumb ? `thumb ${said.thumb}` : said.rating !== null ? `a rating of ${said.rating}`
    : said.comparison ? `${said.comparison.side} in a comparison` : 'a comment alone';
  return `The vote on this reply is ${what}, ${words(said.state)}${said.reason ? ` (${said.reason})` : ''}.`;
}

function learned({ learned_by: runs }) {
  if (!runs.length) return h('p', { className: 'muted' }, 'No update run has learned from this reply.');
  return h('ul', { className: 'trace' }, ...runs.map((each) => h('li', {},
    `Run ${each.run} ${each.how === 'practice' ? 'fitted its reward model to it' : 'learned it'}`,
    each.version ? [': ', h('span', { className: 'mono' }, each.version), ' ', h('span', { className: 'chip' }, words(each.state))] : ` (${words(each.run_state)})`,
    each.served_in.length ? `, part of what is ${each.served_in.join(' and ')} now` : ', part of nothing that serves now',
    each.stands ? '' : '; the vote was changed or withdrawn since, or waits again')));
}
