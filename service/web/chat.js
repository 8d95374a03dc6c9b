// The chat page: sends turns, streams replies, and keeps page and conversation in step.

import { advice, ApiError, streamReply } from './api.js';
import { Conversation, userId } from './conversation.js';
import { arrange, copy, h, icon, iconButton, toast, watchTopBar } from './dom.js';
import { isOpen, VoteBar } from './feedback.js';
import { shortVersion } from './format.js';
import { askForKey, withKey } from './keys.js';
import { renderMarkdown } from './markdown.js';

const VOTE_LOOK_MS = 4000;
const VOTES_PER_LOOK = 6;

const byId = (id) => document.getElementById(id);
const log = byId('log');
const empty = byId('empty');
const prompt = byId('prompt');
const send = byId('send');
const stop = byId('stop');
const toEnd = byId('to-end');
const status = byId('status');

let conversation = Conversation.load();
let running = null;
const drawn = new WeakMap();

const say = (text) => { status.textContent = text; };
const atEnd = () => window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 90;
const goToEnd = (behavior = 'auto') => window.scrollTo({ top: document.documentElement.scrollHeight, behavior });

// Drawing

function userTurn(turn) {
  return h('article', { className: 'turn user', 'aria-label': 'You' }, h('div', { className: 'bubble', dir: 'auto' }, turn.content));
}

function versionNotice(version, before) {
  if (!before || !version || before === version) return null;
  return h('p', { className: 'notice', title: version }, h('span', {}, 'Now speaking: ', h('strong', {}, shortVersion(version))));
}

function replyTurn(turn) {
  const body = h('div', { className: 'prose' });
  if (turn.content.trim()) body.append(renderMarkdown(turn.content));
  else body.append(h('p', { className: 'nothing' }, 'The reply is empty.'));
  const bar = new VoteBar(turn, () => conversation.save());
  const copyButton = iconButton('copy', 'Copy reply', () => copy(turn.content, copyButton));
  const tools = h('div', { className: 'tools' }, bar.buttons, copyButton,
    iconButton('again', 'Try another reply', regenerate, { className: 'tool regenerate' }),
    h('span', { className: 'chip version', title: `Written by policy version ${turn.version ?? 'unknown'}` }, shortVersion(turn.version)));
  const node = h('article', { className: 'turn reply', 'aria-label': 'Reply' }, body, tools, bar.details);
  return { nodes: [node], bar };
}

/** The nodes of a turn, made once, so that a screen reader hears only what is new. */
function nodesOf(turn, index) {
  if (!drawn.has(turn)) {
    const made = turn.role === 'user' ? { nodes: [userTurn(turn)], bar: null } : replyTurn(turn);
    const notice = versionNotice(turn.version, conversation.versionBefore(index));
    drawn.set(turn, { ...made, nodes: notice ? [notice, ...made.nodes] : made.nodes });
  }
  return drawn.get(turn).nodes;
}

function draw(...extra) {
  const nodes = [...conversation.turns.flatMap(nodesOf), ...extra];
  if (!running && extra.length === 0 && conversation.last()?.role === 'user') {
    nodes.push(card({ title: 'No reply yet', text: 'This message was sent, but its reply did not arrive.', action: 'retry' }));
  }
  arrange(log, nodes);
  empty.hidden = conversation.turns.length > 0;
}

function card({ title, text, action }, wait = 0) {
  const buttons = [];
  if (action === 'retry') buttons.push(retryButton(wait));
  if (action === 'key') {
    buttons.push(h('button', { type: 'button', className: 'button small', onclick: async () => { if (await askForKey()) reply(); } }, icon('key'), 'Enter a key'));
  }
  if (action === 'new') buttons.push(h('button', { type: 'button', className: 'button small', onclick: newChat }, icon('new'), 'New chat'));
  return h('div', { className: 'card', role: 'alert' }, h('div', {}, h('strong', {}, title), h('p', {}, text)), ...buttons);
}

/** A button that repeats the request, once `wait` seconds have passed. */
function retryButton(wait) {
  const label = h('span', {}, 'Try again');
  const button = h('button', { type: 'button', className: 'button small', onclick: () => reply() }, icon('again'), label);
  const until = Date.now() + wait * 1000;
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    button.disabled = left > 0;
    label.textContent = left > 0 ? `Try again in ${left} s` : 'Try again';
    if (left > 0) setTimeout(tick, 250);
  };
  tick();
  return button;
}

// Replying

/** The article that a reply streams into; the markdown is rendered once per frame at most. */
class StreamView {
  #body = h('div', { className: 'prose streaming' }, h('p', { className: 'thinking' }, h('span', {}), h('span', {}), h('span', {})));
  #text = '';
  #frame = 0;

  constructor() {
    this.node = h('article', { className: 'turn reply', 'aria-label': 'Reply', 'aria-busy': 'true' }, this.#body);
  }

  show(text) {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const follow = atEnd();
      if (this.#text.trim()) this.#body.replaceChildren(renderMarkdown(this.#text));
      if (follow) goToEnd();
    });
  }

  notice(node) {
    if (node) this.node.before(node);
  }

  close() {
    cancelAnimationFrame(this.#frame);
  }
}

function setRunning(controller) {
  running = controller;
  stop.hidden = !controller;
  send.hidden = Boolean(controller);
  refreshSend();
}

/** Read one reply into `turn`, showing it as it grows. */
async function read(turn, view, signal) {
  const body = {
    model: 'policy',
    messages: conversation.messages(),
    user: userId(),
    metadata: { conversation_id: conversation.id },
  };
  const before = conversation.versionBefore(conversation.turns.length);
  for await (const part of streamReply(body, signal)) {
    if (part.version && part.version !== turn.version) {
      if (!turn.version) view.notice(versionNotice(part.version, before));
      turn.version = part.version;
    }
    if (part.id) turn.id = part.id;
    if (typeof part.recorded === 'boolean') turn.recorded = part.recorded;
    if (part.text) {
      turn.content += part.text;
      view.show(turn.content);
    }
  }
}

/** Ask for the reply to the conversation as it stands. */
async function reply() {
  if (running) return;
  const controller = new AbortController();
  setRunning(controller);
  const asked = conversation;
  const turn = { role: 'assistant', content: '', id: null, version: null, recorded: true, stopped: false, vote: null };
  const view = new StreamView();
  draw(view.node);
  goToEnd();
  say('The model is writing.');
  let failed = null;
  try {
    await withKey(() => read(turn, view, controller.signal));
    say('The reply is complete.');
  } catch (error) {
    if (error.name === 'AbortError') say('Stopped.');
    else failed = error;
    turn.stopped = true;
  }
  view.close();
  setRunning(null);
  if (asked === conversation) settle(turn, failed);
  else draw();
}

/** Keep what arrived, draw it in its final form, and show what went wrong if anything did. */
function settle(turn, failed) {
  const follow = atEnd();
  if (turn.content || !turn.stopped) conversation.turns.push(turn);
  conversation.save();
  if (failed) draw(problem(failed));
  else draw();
  if (follow || failed) goToEnd();
}

function problem(failed) {
  const error = failed instanceof ApiError ? failed : new ApiError(failed.message, { status: 500 });
  const what = advice(error);
  if (conversation.last()?.role === 'assistant') what.action = null;
  return card(what, error.retryAfter ?? (error.status === 429 ? 2 : 0));
}

function submit(text) {
  const content = text.trim();
  if (!content || running) return;
  if (conversation.last()?.role === 'user') conversation.turns.pop();
  conversation.turns.push({ role: 'user', content });
  conversation.save();
  prompt.value = '';
  grow();
  reply();
}

function regenerate() {
  if (running || conversation.last()?.role !== 'assistant') return;
  conversation.turns.pop();
  conversation.save();
  reply();
  prompt.focus();
}

function newChat() {
  const old = conversation;
  running?.abort();
  conversation = new Conversation();
  conversation.save();
  draw();
  say('New chat.');
  prompt.focus();
  if (old.turns.length === 0) return;
  toast('New chat started.', {
    label: 'Undo',
    run: () => {
      running?.abort();
      conversation = old;
      conversation.save();
      draw();
      goToEnd();
    },
  });
}

// Composer

function refreshSend() {
  send.disabled = Boolean(running) || prompt.value.trim() === '';
}

function grow() {
  prompt.style.height = 'auto';
  prompt.style.height = `${Math.min(prompt.scrollHeight, 220)}px`;
  refreshSend();
}

prompt.addEventListener('input', grow);
prompt.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit(prompt.value);
});
byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  submit(prompt.value);
});
stop.addEventListener('click', () => {
  running?.abort();
  prompt.focus();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && running && !document.querySelector('dialog[open]')) running.abort();
});
byId('new-chat').addEventListener('click', newChat);
byId('enter-key').addEventListener('click', () => askForKey());
for (const button of document.querySelectorAll('.examples button')) {
  button.addEventListener('click', () => submit(button.textContent));
}
toEnd.addEventListener('click', () => goToEnd('smooth'));
const showToEnd = () => { toEnd.hidden = atEnd(); };
window.addEventListener('scroll', showToEnd, { passive: true });
window.addEventListener('resize', showToEnd);

// Votes that wait are looked at now and then, newest first.

setInterval(() => {
  if (document.hidden) return;
  const open = conversation.turns.filter(isOpen).slice(-VOTES_PER_LOOK);
  for (const turn of open) drawn.get(turn)?.bar?.refresh();
}, VOTE_LOOK_MS);

watchTopBar();
draw();
goToEnd();
if (matchMedia('(pointer: fine)').matches) prompt.focus();
