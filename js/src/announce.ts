/** What sighted people see happen to the lists, for those who listen. */

import { type Concept, nameOf, nameOfInstance, remarkOf, type State, sharedLabels } from "./state";

/** The last of them is what matters most: a polite region reads out what stands there in the end. */
export function announcements(before: State | null, now: State): string[] {
  if (before === null || before === now) return [];
  return [...ofInstances(before, now), ...ofSelection(before, now), ...ofConcepts(before, now)];
}

function ofInstances(before: State, now: State): string[] {
  const said: string[] = [];
  const shared = sharedLabels(now.instances);
  const known = new Map(before.instances.map((instance) => [instance.object_id, instance]));
  for (const instance of now.instances) {
    const old = known.get(instance.object_id);
    const name = nameOfInstance(instance, shared);
    if (old === undefined) said.push(`${name} added`);
    if (instance.error !== null && instance.error !== old?.error) said.push(`${name}: ${instance.error}`);
    else if (instance.score !== null && (instance.score !== old?.score || instance.mask !== old?.mask)) {
      if (instance.object_id === now.selected) said.push(`${name}, score ${instance.score.toFixed(2)}`);
    }
    known.delete(instance.object_id);
  }
  const were = known.size > 0 ? sharedLabels(before.instances) : shared;
  for (const gone of known.values()) said.push(`${nameOfInstance(gone, were)} removed`);
  return said;
}

function ofSelection(before: State, now: State): string[] {
  if (now.selected === before.selected) return [];
  const chosen = now.instances.find((instance) => instance.object_id === now.selected);
  if (!chosen || !before.instances.some((instance) => instance.object_id === chosen.object_id)) return [];
  const score = chosen.score === null ? "" : `, score ${chosen.score.toFixed(2)}`;
  return [`${nameOfInstance(chosen, sharedLabels(now.instances))}${score}`];
}

function ofConcepts(before: State, now: State): string[] {
  const known = new Map(before.concepts.map((concept) => [concept.concept_id, concept]));
  const said: string[] = [];
  for (const concept of now.concepts) {
    const old = known.get(concept.concept_id);
    known.delete(concept.concept_id);
    if (concept.pending) continue;
    if (old?.pending || old?.count !== concept.count || old.error !== concept.error)
      said.push(outcome(concept));
  }
  for (const gone of known.values()) said.push(`${plain(gone)} removed`);
  return said;
}

/** Quotation marks are for the eye. */
const plain = (concept: Concept) => concept.text || nameOf(concept);

function outcome(concept: Concept): string {
  if (concept.error !== null) return `${plain(concept)}: ${remarkOf(concept)}`;
  const found = `${concept.count} found for ${plain(concept)}`;
  return concept.note === null ? found : `${found}. ${concept.note}`;
}
