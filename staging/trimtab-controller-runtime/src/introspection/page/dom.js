// Elements: described as plain values, and brought about by changing what is there as little as possible, so that focus,
// selection and scroll stay where they are. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "rect", "path", "polyline", "circle", "line"]);
const STATE = Symbol("what an element was made from");

/** Describes an element. `key` among the properties says which one it is among its neighbours. */
export function h(tag, properties, ...children) {
  const { key, ...rest } = properties ?? {};
  return { tag, key, properties: rest, children: children.flat(Infinity).filter(isShown) };
}

function isShown(child) {
  return child !== null && child !== undefined && child !== false && child !== "";
}

/** Makes the children of `parent` be as described. */
export function patch(parent, described) {
  const wanted = new Set(described.map((child) => child.key).filter((key) => key !== undefined));
  const known = new Map();
  for (const node of [...parent.childNodes]) {
    const key = node[STATE]?.key;
    if (key === undefined) continue;
    if (wanted.has(key) && !known.has(key)) known.set(key, node);
    else node.remove();
  }
  let next = parent.firstChild;
  for (const child of described) {
    if (typeof child !== "object") {
      next = patchText(parent, next, String(child));
      continue;
    }
    const node = child.key === undefined ? next : known.get(child.key);
    if (!fits(node, child)) {
      parent.insertBefore(create(child), next);
    } else {
      if (node === next) next = next.nextSibling;
      else move(parent, node, next);
      update(node, child);
    }
  }
  while (next) {
    const after = next.nextSibling;
    next.remove();
    next = after;
  }
}

function patchText(parent, next, text) {
  if (next?.nodeType === Node.TEXT_NODE) {
    if (next.data !== text) next.data = text;
    return next.nextSibling;
  }
  parent.insertBefore(document.createTextNode(text), next);
  return next;
}

function fits(node, child) {
  return node?.nodeType === Node.ELEMENT_NODE && node[STATE]?.tag === child.tag && node[STATE].key === child.key;
}

// Where the browser can, an element keeps its focus while it is moved.
function move(parent, node, next) {
  if (parent.moveBefore && parent.isConnected) parent.moveBefore(node, next);
  else parent.insertBefore(node, next);
}

function create(child) {
  const node = DRAWN.has(child.tag) ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  node[STATE] = { tag: child.tag, key: child.key, properties: {} };
  update(node, child);
  return node;
}

function update(node, child) {
  const before = node[STATE].properties;
  for (const name of Object.keys(before)) {
    if (!(name in child.properties)) set(node, name, undefined);
  }
  for (const [name, value] of Object.entries(child.properties)) {
    if (before[name] !== value) set(node, name, value);
  }
  node[STATE].properties = child.properties;
  patch(node, child.children);
}

function set(node, name, value) {
  if (name.startsWith("on")) node[name] = value ?? null;
  else if (name === "value") {
    // What is being typed is the reader's.
    if (node !== document.activeElement) node.value = value ?? "";
  } else if (name === "width%") node.style.width = value === undefined ? "" : `${value}%`;
  else if (name === "grow") node.style.flexGrow = value === undefined ? "" : String(value);
  else if (value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}
