// The dialog that asks for an API key; the key is kept for this browser tab only.

import { ApiError, getKey, setKey } from './api.js';
import { h } from './dom.js';

let open = null;

/** Ask for a key; resolves to whether one was entered. One dialog serves all who ask at once. */
export function askForKey({ scope = 'chat', reason = null } = {}) {
  open ??= show(scope, reason).finally(() => { open = null; });
  return open;
}

function show(scope, reason) {
  const input = h('input', { type: 'password', name: 'key', autocomplete: 'off', spellcheck: false, value: getKey() });
  const dialog = h('dialog', { 'aria-labelledby': 'key-title' });
  const forget = h('button', { type: 'button', className: 'quiet left', hidden: !getKey(), onclick: () => { setKey(''); dialog.close('forgot'); } }, 'Forget it');
  const save = (event) => {
    event.preventDefault();
    setKey(input.value.trim());
    dialog.close(input.value.trim() ? 'saved' : 'forgot');
  };
  dialog.append(
    h('form', { onsubmit: save },
      h('h2', { id: 'key-title' }, 'API key'),
      h('p', {}, reason ?? 'A server with keys asks every caller for one. A server without keys needs none.'),
      h('label', { className: 'field' }, 'Key', input),
      h('p', {}, 'An operator makes one with ', h('code', {}, `thumbloop keys create NAME --scope ${scope}`), '.'),
      h('div', { className: 'actions' },
        forget,
        h('button', { type: 'button', className: 'button', onclick: () => dialog.close('cancelled') }, 'Cancel'),
        h('button', { type: 'submit', className: 'button primary' }, 'Use this key')),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  input.select();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'saved');
    });
  });
}

/** Run `work`; when the server refuses the key, ask for one and run it once more. */
export async function withKey(work, { scope = 'chat' } = {}) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ApiError) || (error.status !== 401 && error.status !== 403)) throw error;
    const reason = error.status === 401
      ? (getKey() ? 'The server does not know this key. Check it, or enter another.' : 'This server asks for an API key.')
      : `This key lacks the scope “${scope}”. Enter one that has it.`;
    if (!(await askForKey({ scope, reason }))) throw error;
    return work();
  }
}
