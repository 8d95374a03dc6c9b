// The conversation and the anonymous user id, kept in the browser's local storage.

const USER = 'thumbloop.user';
const CONVERSATION = 'thumbloop.conversation';

/** A random id that needs no secure context, unlike crypto.randomUUID. */
function randomId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return prefix + [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** This browser's user id; made on first use. */
export function userId() {
  let id = localStorage.getItem(USER);
  if (!id) {
    id = randomId('web-');
    localStorage.setItem(USER, id);
  }
  return id;
}

/**
 * Turns alternate: `{role: 'user', content}` and
 * `{role: 'assistant', content, id, version, recorded, stopped, vote}` with
 * `vote = {thumb, comment, state, version, reason}` or null.
 */
export class Conversation {
  constructor({ id = randomId('conv-'), turns = [] } = {}) {
    this.id = id;
    this.turns = turns;
  }

  /** The stored conversation, or a new one. */
  static load() {
    try {
      const stored = JSON.parse(localStorage.getItem(CONVERSATION));
      if (stored && Array.isArray(stored.turns)) return new Conversation(stored);
    } catch {
      // Not ours, or damaged: a new conversation replaces it.
    }
    return new Conversation();
  }

  save() {
    try {
      localStorage.setItem(CONVERSATION, JSON.stringify({ id: this.id, turns: this.turns }));
    } catch {
      // The quota is spent: the chat goes on, it only won't survive a reload.
    }
  }

  /** What the model is asked to continue. */
  messages() {
    return this.turns.map(({ role, content }) => ({ role, content }));
  }

  last() {
    return this.turns[this.turns.length - 1] ?? null;
  }

  /** The version that spoke before turn `index`; null if none did. */
  versionBefore(index) {
    for (let i = index - 1; i >= 0; i -= 1) {
      if (this.turns[i].version) return this.turns[i].version;
    }
    return null;
  }
}
