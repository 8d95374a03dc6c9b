// The thumbs under a reply: a vote, its comment, its withdrawal, and what became of it.

import { ApiError, json } from './api.js';
import { userId } from './conversation.js';
import { h, icon, setAttribute, setText, toast } from './dom.js';
import { voteState } from './format.js';
import { withKey } from './keys.js';

const path = (id) => `/v1/feedback/${encodeURIComponent(id)}`;
const ofUser = (id) => `${path(id)}?user=${encodeURIComponent(userId())}`;
const OPEN_STATES = new Set(['pending', 'claimed']);

const put = (id, vote) => json('PUT', path(id), {
  body: { thumb: vote.thumb, user: userId(), ...(vote.comment ? { comment: vote.comment } : {}) },
});

/** Why a reply cannot be voted on; null if it can. */
function obstacle(turn) {
  if (turn.recorded === false) return 'This reply was not recorded, so it cannot be voted on.';
  if (!turn.id) return 'This reply has no id, so it cannot be voted on.';
  return null;
}

/** Whether a later look may find that the vote has been learned from. */
export const isOpen = (turn) => Boolean(turn.vote) && OPEN_STATES.has(turn.vote.state ?? 'pending');

/** The voting controls of one reply. `save` is called whenever `turn.vote` changed. */
export class VoteBar {
  #turn;
  #save;
  #saved;
  #unsent = 0;
  #sending = Promise.resolve();
  #commenting = false;
  #up;
  #down;
  #note = h('p', { className: 'vote-note', role: 'status' });
  #form;
  #text;

  constructor(turn, save) {
    this.#turn = turn;
    this.#saved = turn.vote;
    this.#save = save;
    this.#up = this.#thumb('up', 'Good reply');
    this.#down = this.#thumb('down', 'Bad reply');
    this.#text = h('textarea', { rows: 2, maxLength: 2000, 'aria-label': 'Comment on this reply', onkeydown: (event) => this.#keys(event) });
    this.#form = h('form', { className: 'comment', hidden: true, onsubmit: (event) => { event.preventDefault(); this.#comment(); } },
      this.#text,
      h('div', { className: 'comment-actions' },
        h('button', { type: 'button', className: 'quiet', onclick: () => this.#close() }, 'No comment'),
        h('button', { type: 'submit', className: 'button primary small' }, 'Send comment')));
    this.buttons = h('div', { className: 'thumbs', role: 'group', 'aria-label': 'Your vote' }, this.#up, this.#down);
    this.details = h('div', { className: 'vote' }, this.#note, this.#form);
    this.draw();
  }

  #thumb(thumb, label) {
    return h('button', { type: 'button', className: `tool thumb ${thumb}`, 'aria-label': label, title: label, onclick: () => this.#toggle(thumb) }, icon(thumb));
  }

  /** Bring the controls in line with the turn. */
  draw() {
    const vote = this.#turn.vote;
    const reason = obstacle(this.#turn);
    for (const [button, thumb] of [[this.#up, 'up'], [this.#down, 'down']]) {
      setAttribute(button, 'aria-pressed', String(vote?.thumb === thumb));
      button.disabled = reason !== null;
    }
    setText(this.#note, reason ?? (vote ? `${voteState(vote)}${vote.comment ? ' · with your comment' : ''}` : ''));
    this.#note.classList.toggle('learned', vote?.state === 'learned');
    this.#note.hidden = this.#note.textContent === '';
    this.#form.hidden = !this.#commenting || !vote;
  }

  #toggle(thumb) {
    const before = this.#turn.vote;
    if (before?.thumb === thumb) {
      this.#commenting = false;
      this.#change(null, () => json('DELETE', ofUser(this.#turn.id)));
      return;
    }
    const vote = { thumb, comment: '', state: 'pending' };
    this.#commenting = true;
    this.#text.value = '';
    this.#text.placeholder = thumb === 'up' ? 'What was good? (optional)' : 'What should be better? (optional)';
    this.#change(vote, () => put(this.#turn.id, vote));
    this.#form.scrollIntoView({ block: 'nearest' });
  }

  #comment() {
    const comment = this.#text.value.trim();
    this.#close();
    if (!comment || !this.#turn.vote) return;
    const vote = { ...this.#turn.vote, comment };
    this.#change(vote, () => put(this.#turn.id, vote));
  }

  #close() {
    this.#commenting = false;
    this.draw();
    this.#focusThumb();
  }

  #focusThumb() {
    (this.#turn.vote?.thumb === 'down' ? this.#down : this.#up).focus();
  }

  #keys(event) {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#comment();
    } else if (event.key === 'Escape') {
      event.stopPropagation();
      this.#close();
    }
  }

  /** Show `vote` at once and send it after those before it; go back if the server says no. */
  #change(vote, send) {
    this.#set(vote);
    this.#unsent += 1;
    this.#sending = this.#sending.then(() => this.#send(vote, send));
  }

  async #send(vote, send) {
    try {
      const answer = await withKey(send);
      this.#saved = vote && { ...vote, ...standing(answer) };
    } catch (error) {
      this.#refused(error);
    }
    this.#unsent -= 1;
    if (this.#unsent === 0) this.#set(this.#saved);
  }

  #refused(error) {
    if (error instanceof ApiError && error.status === 404) {
      this.#turn.recorded = false;
      this.#saved = null;
      toast('The server has no record of this reply any more, so it takes no votes on it.');
    } else if (error instanceof ApiError && error.status === 503) {
      toast('Votes cannot be saved right now. Try again in a moment.');
    } else {
      toast(`The vote was not saved. ${error.message}`);
    }
  }

  #set(vote) {
    this.#turn.vote = vote;
    this.#save();
    this.draw();
  }

  /** Ask what became of the vote; failures wait for the next look. */
  async refresh() {
    if (this.#unsent > 0 || !isOpen(this.#turn)) return;
    const asked = this.#turn.vote;
    let found = asked;
    try {
      found = { ...asked, ...standing(await json('GET', ofUser(this.#turn.id))) };
    } catch (error) {
      if (error.status === 404) found = null;
    }
    if (this.#turn.vote !== asked) return;
    this.#saved = found;
    this.#set(found);
  }
}

const standing = (answer) => ({
  state: answer?.state ?? 'pending',
  version: answer?.version ?? null,
  reason: answer?.reason ?? null,
});
