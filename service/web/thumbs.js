// Thumbs for any web page: stream a reply, show two buttons, and vote with the reply's own token.
// No dependency. See docs/tasks/front-ends.md.

const EVENT_END = /\r?\n\r?\n/;

/** One event's JSON; null for a comment and for the end of the stream. */
function parsed(event) {
  const data = event.split(/\r?\n/).filter((line) => line.startsWith('data:'))
    .map((line) => line.slice(5).trim()).join('\n');
  return data && data !== '[DONE]' ? JSON.parse(data) : null;
}

/**
 * Ask for a streamed reply, and return its text, its id and its token.
 *
 * `url` is where chats are sent: your own server, which adds the API key, or Thumbloop itself where
 * it has no keys. `onText` is called with each piece of the text.
 */
export async function stream(url, body, { onText = () => {}, headers = {}, signal } = {}) {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!answer.ok) throw new Error((await answer.json()).error?.message ?? answer.statusText);
  const reply = { text: '', id: null, token: null };
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return reply;
    const events = (rest + value).split(EVENT_END);
    rest = events.pop();
    for (const chunk of events.map(parsed).filter(Boolean)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const choice = chunk.choices[0];
      if (!choice) continue;
      const text = choice.delta?.content ?? '';
      reply.text += text;
      reply.id = choice.completion_id;
      reply.token = choice.feedback_token ?? reply.token;
      if (text) onText(text);
    }
  }
}

/** Set the vote on a reply, `up` or `down`; withdraw it with null. */
export async function vote(server, { id, token }, thumb) {
  const answer = await fetch(`${server}/v1/feedback/${encodeURIComponent(id)}`, {
    method: thumb ? 'PUT' : 'DELETE',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: thumb ? JSON.stringify({ thumb }) : undefined,
  });
  if (!answer.ok) throw new Error((await answer.json()).error?.message ?? answer.statusText);
  return answer.json();
}

/**
 * Return an element with a thumb up and a thumb down for a reply; a second click withdraws.
 *
 * `server` is Thumbloop's address. A `thumbs` event tells of each vote, with its error if it failed.
 */
export function thumbs(server, reply, { up = '👍', down = '👎' } = {}) {
  const group = document.createElement('span');
  group.setAttribute('role', 'group');
  group.setAttribute('aria-label', 'Rate this reply');
  let current = null;
  const buttons = { up: [up, 'Good reply'], down: [down, 'Bad reply'] };
  for (const [thumb, [text, label]] of Object.entries(buttons)) {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', textContent: text, title: label });
    button.setAttribute('aria-label', label);
    button.setAttribute('aria-pressed', 'false');
    button.dataset.thumb = thumb;
    button.addEventListener('click', async () => {
      const wanted = current === thumb ? null : thumb;
      let error = null;
      try {
        await vote(server, reply, wanted);
        current = wanted;
      } catch (reason) {
        error = reason;
      }
      for (const each of group.children) {
        each.setAttribute('aria-pressed', String(each.dataset.thumb === current));
      }
      group.dispatchEvent(new CustomEvent('thumbs', { bubbles: true, detail: { thumb: current, error } }));
    });
    group.append(button);
  }
  return group;
}
