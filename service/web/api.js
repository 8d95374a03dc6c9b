// Speaks to the server: adds the key, streams replies, and turns failures into advice.

const KEY = 'thumbloop.key';

/** A request that failed; `status` is 0 when no answer came at all. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const getKey = () => sessionStorage.getItem(KEY) ?? '';

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

async function failure(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // The body is not the contract's JSON (a proxy's page, say); the status alone has to do.
  }
  const wait = Number.parseFloat(response.headers.get('retry-after'));
  return new ApiError(error.message || `The server answered ${response.status}.`, {
    status: response.status,
    code: error.code ?? null,
    retryAfter: Number.isFinite(wait) ? wait : null,
  });
}

/** Send a request; returns the response if it is a good one, throws ApiError (or AbortError). */
export async function request(method, path, { body, signal } = {}) {
  const headers = {};
  if (getKey()) headers.Authorization = `Bearer ${getKey()}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server cannot be reached. Check that it runs, then try again.');
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** Send a request and return its JSON, or null for an empty answer. */
export async function json(method, path, options) {
  const text = await (await request(method, path, options)).text();
  return text ? JSON.parse(text) : null;
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '';
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      const lines = buffer.split(/\r\n|\n|\r(?!$)/);
      buffer = lines.pop();
      for (const line of lines) {
        if (line.startsWith('data:')) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Ask for a reply and yield what each event adds:
 * `{id, version, text, recorded, finish}`, fields that an event lacks being undefined.
 */
export async function* streamReply(body, signal) {
  const response = await request('POST', '/v1/chat/completions', {
    body: { ...body, stream: true },
    signal,
  });
  yield { version: response.headers.get('x-policy-version') ?? undefined };
  try {
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, { status: 500, code: chunk.error.code });
      const choice = chunk.choices?.[0];
      yield {
        id: choice?.completion_id ?? chunk.id,
        version: chunk.system_fingerprint,
        text: choice?.delta?.content ?? undefined,
        recorded: chunk.recorded ?? choice?.recorded,
        finish: choice?.finish_reason ?? undefined,
      };
    }
  } catch (error) {
    if (error.name === 'AbortError' || error instanceof ApiError) throw error;
    throw new ApiError('The connection broke before the reply was finished.');
  }
  throw new ApiError('The connection broke before the reply was finished.');
}

/** What the user can do about an error: `{title, text, action}`; action: key, retry, new or null. */
export function advice(error) {
  switch (error.status) {
    case 0:
      return { title: 'No connection', text: error.message, action: 'retry' };
    case 401:
      return { title: 'This server asks for an API key', text: 'Enter your key to go on. It stays in this browser tab only.', action: 'key' };
    case 403:
      return { title: 'This key may not do that', text: error.message, action: 'key' };
    case 429:
      return { title: 'The server is busy', text: 'Many people are chatting just now. Your message is kept.', action: 'retry' };
    case 503:
      return { title: 'The server cannot answer right now', text: error.message, action: 'retry' };
    case 400:
      return error.code === 'context_length_exceeded'
        ? { title: 'This conversation has become too long', text: `${error.message} A new chat starts afresh.`, action: 'new' }
        : { title: 'The server did not accept this', text: error.message, action: 'retry' };
    default:
      return { title: 'That did not work', text: error.message, action: 'retry' };
  }
}
