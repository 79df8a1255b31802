// What a node's user should know, one line each. Given a list of images a node runs once per item: a note that not all
// of its runs have says which ones have it.
const MOST = 5; // items named

export function noteLines(runs, label) {
  const items = new Map();
  runs.forEach((notes, index) => notes.forEach((note) => items.set(note, [...(items.get(note) ?? []), index + 1])));
  return [...items].map(([note, numbers]) => {
    const listed = numbers.slice(0, MOST).join(", ") + (numbers.length > MOST ? ", \u2026" : "");
    return `\u26a0 ${numbers.length < runs.length ? label(listed, runs.length) : ""}${note}`;
  }).join("\n");
}
