// Small helpers to build and update the page without innerHTML.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Create an element. Keys of `props` that start with "on" are listeners, `class` and `aria-*` and
 * the like are attributes, and the rest are properties; null and undefined are left out.
 */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== 'list') node[key] = value;
    else node.setAttribute(key === 'className' ? 'class' : key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Create an SVG element with attributes. */
export function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** One icon of icons.svg. */
export function icon(name) {
  return s('svg', { class: 'icon', 'aria-hidden': 'true' }, s('use', { href: `/static/icons.svg#${name}` }));
}

/** A button with an icon, named by `label` for screen readers and as its tooltip. */
export function iconButton(name, label, onclick, props = {}) {
  return h('button', { type: 'button', className: 'tool', 'aria-label': label, title: label, onclick, ...props }, icon(name));
}

/** Set text only when it changes, so that selections survive and nothing flickers. */
export function setText(node, text) {
  const next = text === null || text === undefined ? '' : String(text);
  if (node.textContent !== next) node.textContent = next;
}

/** Set or remove an attribute only when it changes. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Make `nodes` the children of `parent`, in order, touching only what is out of place. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!wanted.has(node)) node.remove();
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

/**
 * Make `parent`'s children match `items`: the element of a known key is kept and updated.
 *
 * @param create (item) => Element, called once for a new key
 * @param update (element, item) => void, called for every item
 */
export function reconcile(parent, items, { key, create, update }) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  arrange(parent, items.map((item) => {
    const id = String(key(item));
    const node = known.get(id) ?? create(item);
    node.dataset.key = id;
    update(node, item);
    return node;
  }));
}

let shown = null;

/** Show a short message at the bottom; an `action` adds one button to it. */
export function toast(text, action = null) {
  shown?.remove();
  const node = h('div', { className: action ? 'toast' : 'toast plain', role: 'status' }, text);
  if (action) {
    node.append(h('button', { type: 'button', onclick: () => { node.remove(); action.run(); } }, action.label));
  }
  document.body.append(node);
  shown = node;
  setTimeout(() => node.remove(), action ? 8000 : 3500);
}

/** Copy text, and say so on the button for a moment. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    toast('The browser did not allow copying; select the text instead.');
    return;
  }
  const before = [...button.childNodes];
  button.replaceChildren(icon('check'));
  setTimeout(() => button.replaceChildren(...before), 1400);
}

/** Mark the top bar once the page is scrolled under it. */
export function watchTopBar() {
  const bar = document.querySelector('.top');
  const mark = () => bar.classList.toggle('scrolled', window.scrollY > 4);
  window.addEventListener('scroll', mark, { passive: true });
  mark();
}
