// Finding and making elements. Whatever comes from elsewhere becomes text here and nothing more.

export const byId = (id) => document.getElementById(id);

/** Make an element; `text` is never markup. */
export function element(tag, className = "", text = null) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== null) node.textContent = text;
  return node;
}

/** Live regions speak at every write: write only what changed. */
export function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

/** Say what went wrong beside the thing it concerns; "" takes it back. */
export function problem(id, text) {
  const node = byId(id);
  node.textContent = text;
  node.hidden = text === "";
}

/** A hue for an identity, the same in every tab. */
export function hueOf(identity) {
  let hash = 0;
  for (const letter of identity) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return (hash * 137) % 360;
}
