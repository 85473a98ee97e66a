"""Scores of discrete behaviour, from confusion matrices and histograms that add up over batches.

Unlabelled examples (label -1) take part in none of them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special
from sklearn.metrics import silhouette_score

Confusion = Float[np.ndarray, "true predicted"]
Logits = Float[np.ndarray, "example class"]
Labels = Int[np.ndarray, " example"]


class ClassScores(NamedTuple):
  """Per class; 0 where a class was never predicted or never occurs."""

  precision: Float[np.ndarray, " class"]
  recall: Float[np.ndarray, " class"]
  f1: Float[np.ndarray, " class"]
  support: Float[np.ndarray, " class"]


def confusion(labels: Labels, predicted: Labels, *, classes: int) -> Confusion:
  """Counts of (true, predicted) pairs."""
  known = labels >= 0
  counts = np.zeros((classes, classes))
  np.add.at(counts, (labels[known], predicted[known]), 1)
  return counts


def accuracy(counts: Confusion) -> float:
  """Share of examples on the diagonal."""
  return float(np.trace(counts) / max(counts.sum(), 1))


def class_scores(counts: Confusion) -> ClassScores:
  """Precision, recall, F1 and support of every class."""
  hits, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
  precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(true, 1)
  return ClassScores(precision, recall, 2 * hits / np.maximum(true + predicted, 1), true)


def balanced_accuracy(counts: Confusion) -> float:
  """Mean recall over the classes that occur."""
  scores = class_scores(counts)
  occurs = scores.support > 0
  return float(scores.recall[occurs].mean()) if occurs.any() else 0.0


def macro_f1(counts: Confusion) -> float:
  """Mean F1 over the classes that occur in truth or prediction (as scikit-learn's default)."""
  occurs = (counts.sum(0) + counts.sum(1)) > 0
  return float(class_scores(counts).f1[occurs].mean()) if occurs.any() else 0.0


def probabilities(logits: Logits, *, temperature: float = 1.0) -> Logits:
  """Softmax of `logits / temperature`."""
  return special.softmax(np.asarray(logits, np.float64) / temperature, axis=-1)


def negative_log_likelihood(logits: Logits, labels: Labels, *, temperature: float = 1.0) -> float:
  """Mean over labelled examples, in nats."""
  known = labels >= 0
  log_p = special.log_softmax(np.asarray(logits[known], np.float64) / temperature, axis=-1)
  return float(-log_p[np.arange(len(log_p)), labels[known]].mean())


def brier(logits: Logits, labels: Labels, *, temperature: float = 1.0) -> float:
  """Mean squared distance between the class probabilities and the truth, 0 to 2."""
  known = labels >= 0
  p = probabilities(logits[known], temperature=temperature)
  p[np.arange(len(p)), labels[known]] -= 1
  return float((p**2).sum(-1).mean())


class Reliability(NamedTuple):
  """Equal-width bins of confidence.

  Attributes:
    confidence: mean confidence of the bin's examples.
    accuracy: share of them that is right.
    count: how many there are.
  """

  confidence: Float[np.ndarray, " bin"]
  accuracy: Float[np.ndarray, " bin"]
  count: Float[np.ndarray, " bin"]


def reliability(logits: Logits, labels: Labels, *, temperature: float = 1.0, bins: int = 15) -> Reliability:
  """Confidence of the predicted class against how often it is right (Guo et al. 2017)."""
  known = labels >= 0
  p = probabilities(logits[known], temperature=temperature)
  confidence, right = p.max(-1), p.argmax(-1) == labels[known]
  place = np.minimum((confidence * bins).astype(int), bins - 1)
  count = np.bincount(place, minlength=bins).astype(float)
  means = [np.bincount(place, weights, minlength=bins) / np.maximum(count, 1) for weights in (confidence, right)]
  return Reliability(means[0], means[1], count)


def expected_calibration_error(bins: Reliability) -> float:
  """Mean distance between confidence and accuracy, weighted by the bins' counts."""
  return float((np.abs(bins.confidence - bins.accuracy) * bins.count).sum() / max(bins.count.sum(), 1))


def fit_temperature(logits: Logits, labels: Labels) -> float:
  """The temperature with the lowest negative log-likelihood, between 0.05 and 20; fit it on validation data."""
  if not (labels >= 0).any():
    return 1.0
  found = optimize.minimize_scalar(
    lambda log_t: negative_log_likelihood(logits, labels, temperature=np.exp(log_t)),
    bounds=(np.log(0.05), np.log(20.0)),
    method="bounded",
  )
  return float(np.exp(found.x))


def bootstrap_interval(
  labels: Labels, predicted: Labels, groups: Int[np.ndarray, " example"], *, score, classes: int, draws: int = 1000
) -> tuple[float, float]:
  """95 % interval of `score(confusion)` when whole groups (subjects, or recordings) are drawn with replacement.

  Args:
    labels: truth.
    predicted: classes.
    groups: which group each example belongs to; examples of a group are not independent.
    score: function of a confusion matrix.
    classes: number of classes.
    draws: bootstrap samples; the seed is fixed.
  """
  members = np.unique(groups)
  tables = np.stack([confusion(labels[groups == g], predicted[groups == g], classes=classes) for g in members])
  rng = np.random.default_rng(0)
  weights = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
  scores = [score(table) for table in np.tensordot(weights, tables, axes=1)]
  low, high = np.percentile(scores, [2.5, 97.5])
  return float(low), float(high)


def by_channel(
  values: Float[np.ndarray, "*batch row channel"], *, devices: int = 1
) -> Float[np.ndarray, "*batch column"]:
  """Values of a window's rows and channels -> of the signal's columns, as of `Windows.channels`.

  Rows are devices, each with columns of its own, or parts of the same columns, over which the mean is taken.
  """
  *batch, rows, channels = values.shape
  return values.reshape(*batch, devices, rows // devices, channels).mean(-2).reshape(*batch, devices * channels)


def channel_ranges(signal: Float[np.ndarray, "sample channel"]) -> Float[np.ndarray, " channel"]:
  """What each channel spans: from the 0.1 % to the 99.9 % quantile, so that single outliers do not count."""
  low, high = np.quantile(signal, [0.001, 0.999], axis=0)
  return high - low


def psnr(mse: Float[np.ndarray, " channel"], peak: Float[np.ndarray, " channel"]) -> Float[np.ndarray, " channel"]:
  """Peak signal-to-noise ratio in dB, `10 log10(peak^2 / mse)`; NaN for a channel that is constant.

  The peak is the channel's range (`channel_ranges`) in the units of the error: here normalised ones, where a mean
  squared error of 1 is the variance of the training data.
  """
  peak = np.where(np.asarray(peak) > 0, peak, np.nan)
  return 10 * np.log10(peak**2 / np.maximum(mse, 1e-12))


def silhouette(
  vectors: Float[np.ndarray, "example feature"], clusters: Int[np.ndarray, " example"], *, most: int = 1000
) -> float:
  """Mean silhouette, -1 to 1: how much nearer vectors are to their own cluster than to the next (Rousseeuw 1987).

  Args:
    vectors: of which an even sample is taken.
    clusters: of the vectors; those below 0 are left out.
    most: size of the sample.

  Returns:
    NaN where the sample has fewer than two clusters, or none with two vectors.
  """
  known = np.flatnonzero(clusters >= 0)
  sample = known[np.linspace(0, len(known) - 1, min(most, len(known))).astype(int)]
  if not 1 < len(np.unique(clusters[sample])) < len(sample):
    return float("nan")
  return float(silhouette_score(np.asarray(vectors, np.float64)[sample], clusters[sample]))


def perplexity(counts: Float[np.ndarray, " code"]) -> float:
  """exp(entropy) of a histogram of codes; 1 for an empty one."""
  return float(np.exp(special.entr(counts / max(counts.sum(), 1)).sum()))


class CodeStatistics(NamedTuple):
  """How a codebook is used over a whole split.

  Attributes:
    counts: of each code.
    perplexity: exp(entropy) of the histogram.
    usage: share of the codes that occur.
  """

  counts: Float[np.ndarray, " code"]
  perplexity: float
  usage: float


def code_statistics(tokens: Int[np.ndarray, "example *token"], *, num_codes: int) -> CodeStatistics:
  """Histogram, perplexity and usage."""
  counts = np.bincount(tokens.ravel(), minlength=num_codes).astype(float)
  return CodeStatistics(counts, perplexity(counts), float((counts > 0).mean()))


class CodeDictionary(NamedTuple):
  """What each code stands for.

  Attributes:
    joint: counts of (code, behaviour) over labelled examples.
    behaviour: most frequent behaviour of each code, -1 where the code does not occur.
    purity: share of the code's occurrences in that behaviour.
    information: normalised mutual information between codes and behaviours, 0 to 1.
  """

  joint: Float[np.ndarray, "code class"]
  behaviour: Int[np.ndarray, " code"]
  purity: Float[np.ndarray, " code"]
  information: float


def code_dictionary(
  tokens: Int[np.ndarray, "example *token"], labels: Labels, *, num_codes: int, classes: int
) -> CodeDictionary:
  """Counts how often each code occurs in windows of each behaviour."""
  known = labels >= 0
  flat = tokens[known].reshape(int(known.sum()), -1)
  joint = np.zeros((num_codes, classes))
  np.add.at(joint, (flat, labels[known][:, None]), 1)
  total = joint.sum(1)
  behaviour = np.where(total > 0, joint.argmax(1), -1)
  return CodeDictionary(joint, behaviour, joint.max(1) / np.maximum(total, 1), normalized_information(joint))


def normalized_information(joint: Float[np.ndarray, "row column"]) -> float:
  """Mutual information over the mean of the two entropies (as scikit-learn's default)."""
  p = joint / max(joint.sum(), 1)
  rows, columns, both = (special.entr(q).sum() for q in (p.sum(1), p.sum(0), p))
  return float((rows + columns - both) / ((rows + columns) / 2)) if rows + columns > 0 else 1.0
