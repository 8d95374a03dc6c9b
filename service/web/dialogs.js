// A dialog that asks before something is changed.

import { h } from './dom.js';

/**
 * Ask for a decision; resolves to the form's values (an object), or null when cancelled.
 *
 * @param fields elements with a `name`, shown under the text
 */
export function confirm({ title, text, action, danger = false, fields = [] }) {
  const dialog = h('dialog', { 'aria-labelledby': 'confirm-title' });
  const form = h('form', { onsubmit: (event) => { event.preventDefault(); dialog.close('yes'); } },
    h('h2', { id: 'confirm-title' }, title),
    h('p', {}, text),
    ...fields,
    h('div', { className: 'actions' },
      h('button', { type: 'button', className: 'button', onclick: () => dialog.close('no') }, 'Cancel'),
      h('button', { type: 'submit', className: danger ? 'button danger' : 'button primary' }, action)));
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes' ? Object.fromEntries(new FormData(form)) : null);
    });
  });
}

/** A one-line field for the reason that the audit list will show. */
export function whyField() {
  return h('label', { className: 'field' }, 'Why (for the audit list, optional)',
    h('input', { name: 'why', maxLength: 500, autocomplete: 'off' }));
}
