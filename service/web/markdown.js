// Renders a model's markdown as a safe fragment: no raw HTML, no images, no scripts, no styles.

import { Marked } from './vendor/marked-18.2.1/marked.esm.js';
import DOMPurify from './vendor/dompurify-3.4.18/purify.es.js';
import { copy, h, icon } from './dom.js';

const TAGS = [
  'a', 'blockquote', 'br', 'code', 'del', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'li',
  'ol', 'p', 'pre', 'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul',
];
/** What has a direction of its own, right to left or left to right, by its first letters. */
const BLOCKS = 'blockquote, h1, h2, h3, h4, h5, h6, li, p, td, th';
const ATTRIBUTES = ['align', 'class', 'href', 'start', 'title'];

const escape = (text) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

// HTML in a reply is shown as the text it is. An image would tell its host who reads, so it
// becomes a link.
const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escape(text),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || 'image')}</a>`,
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

const purify = DOMPurify(window);
purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.nodeName === 'A' && node.hasAttribute('href')) {
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer nofollow');
  }
  if (node.nodeName !== 'CODE') node.removeAttribute('class');
});

function frameCode(pre) {
  const code = pre.querySelector('code');
  const language = /^language-([\w+#.-]+)$/.exec(code?.className ?? '')?.[1] ?? 'code';
  const button = h('button', { type: 'button', className: 'tool', 'aria-label': 'Copy code', title: 'Copy code' }, icon('copy'));
  button.addEventListener('click', () => copy(code?.textContent ?? pre.textContent, button));
  const frame = h('div', { className: 'code' }, h('div', { className: 'code-head' }, h('span', {}, language), button));
  pre.replaceWith(frame);
  pre.tabIndex = 0;
  frame.append(pre);
}

function frameTable(table) {
  const frame = h('div', { className: 'scroll', tabIndex: 0 });
  table.replaceWith(frame);
  frame.append(table);
}

/** Return a DocumentFragment of the rendered markdown. */
export function renderMarkdown(text) {
  const fragment = purify.sanitize(marked.parse(text), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  fragment.querySelectorAll(BLOCKS).forEach((block) => block.setAttribute('dir', 'auto'));
  fragment.querySelectorAll('pre').forEach(frameCode);
  fragment.querySelectorAll('table').forEach(frameTable);
  return fragment;
}
