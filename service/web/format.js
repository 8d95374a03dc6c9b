// Pure functions that turn figures, times and version ids into words.

/** `v000012-3fa9c1d2e4b7` → `v000012`; `base` stays. */
export function shortVersion(version) {
  return version ? String(version).split('-')[0] : 'unknown';
}

/** A version's approval with its 95 % interval, both from the server; null without votes. */
export function approvalOf(row) {
  if (!row.interval) return null;
  const [low, high] = row.interval;
  return { share: row.approval, low, high, votes: row.up + row.down };
}

/** A share in [0, 1] as whole percent. */
export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** A number with few digits; a dash when there is none. */
export function number(value, digits = 3) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return '–';
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
}

/** How long ago `seconds` since the epoch was. */
export function ago(seconds, now = Date.now() / 1000) {
  if (!seconds) return '–';
  const age = Math.max(0, now - seconds);
  if (age < 5) return 'just now';
  if (age < 60) return `${Math.floor(age)} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return `${Math.floor(age / 86400)} d ago`;
}

/** Local date and time of `seconds` since the epoch, for tooltips. */
export function dateTime(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString() : '';
}

/** What has become of a vote. */
export function voteState(vote) {
  switch (vote.state) {
    case 'claimed': return 'Being learned now';
    case 'learned': return vote.version ? `Learned in ${shortVersion(vote.version)}` : 'Learned';
    case 'expired': return 'Too old to be learned from';
    case 'discarded': return vote.reason ? `Not learned: ${vote.reason}` : 'Not learned';
    default: return 'Waiting to be learned';
  }
}
