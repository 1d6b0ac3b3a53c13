import MediaPipeTasksVision
import UIKit

/// Classifies pictures by the file that `alexnet convert` wrote, which is a resource of the app,
/// `alexnet.tflite`. MediaPipe takes labels and types from the file; the crop is this class's part:
/// the shorter side is scaled to `resize` and the central square of `image_size` pixels is handed
/// over. Both stand in the file, so that another network of colour needs no other code, and so does
/// the probability that a class has to reach. MediaPipe takes no grey network, and does not look
/// whether the file is whole: try it by `alexnet classify` before it goes into the app.
final class Classifier {
  enum Failure: Error {
    case noFile
    case noManifest
    case noPixels
  }

  private let resize: CGFloat
  private let side: CGFloat
  private let least: Float
  private let mediapipe: ImageClassifier

  init() throws {
    guard let path = Bundle.main.path(forResource: "alexnet", ofType: "tflite") else {
      throw Failure.noFile
    }
    let content = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    let manifest = try Classifier.manifest(in: content)
    guard let pixels = manifest["preprocessing"] as? [String: Any],
      let resize = pixels["resize"] as? Int, let side = pixels["image_size"] as? Int
    else { throw Failure.noManifest }
    self.resize = CGFloat(resize)
    self.side = CGFloat(side)
    least = (manifest["min_probability"] as? NSNumber)?.floatValue ?? 0
    let options = ImageClassifierOptions()
    options.baseOptions.modelAssetPath = path
    options.maxResults = 5
    mediapipe = try ImageClassifier(options: options)
  }

  /// The five most probable classes, best first, each with its probability; "none of these" before
  /// them where the best is less probable than the file wants.
  func classify(_ picture: UIImage) throws -> [(name: String, probability: Float)] {
    let result = try mediapipe.classify(image: MPImage(uiImage: try centralSquare(of: picture)))
    let categories = result.classificationResult.classifications.first?.categories ?? []
    let answers = categories.map { (name: $0.categoryName ?? "", probability: $0.score) }
    guard let best = answers.first, best.probability < least else { return answers }
    return [(name: "none of these", probability: 1 - best.probability)] + answers.dropLast()
  }

  /// Draws upright, scaled, and cut: MediaPipe has nothing to scale.
  private func centralSquare(of picture: UIImage) throws -> UIImage {
    let shorter = min(picture.size.width, picture.size.height)
    guard shorter > 0 else { throw Failure.noPixels }
    let width = (picture.size.width * resize / shorter).rounded()
    let height = (picture.size.height * resize / shorter).rounded()
    let offset = ((resize - side) / 2).rounded(.down)
    let left = ((width - resize) / 2).rounded(.down) + offset
    let top = ((height - resize) / 2).rounded(.down) + offset
    let format = UIGraphicsImageRendererFormat()
    format.scale = 1  // pixels, not points
    format.opaque = true
    let square = CGSize(width: side, height: side)
    return UIGraphicsImageRenderer(size: square, format: format).image { context in
      UIColor.white.setFill()  // what is transparent lies on white, as in training
      context.fill(CGRect(origin: .zero, size: square))
      context.cgContext.interpolationQuality = .high
      picture.draw(in: CGRect(x: -left, y: -top, width: width, height: height))
    }
  }

  /// `manifest.json`, which is stored as it is in the zip archive at the end of the file.
  private static func manifest(in content: Data) throws -> [String: Any] {
    // Of all places where the name stands, the last is in the archive's directory.
    guard let name = content.range(of: Data("manifest.json".utf8), options: .backwards),
      name.lowerBound >= 46
    else { throw Failure.noManifest }
    let entry = name.lowerBound - 46
    let size = number(in: content, at: entry + 24, bytes: 4)
    let local = number(in: content, at: entry + 42, bytes: 4)
    guard local + 30 <= content.count else { throw Failure.noManifest }
    let begin = local + 30 + number(in: content, at: local + 26, bytes: 2)
      + number(in: content, at: local + 28, bytes: 2)
    guard begin + size <= content.count,
      let manifest = try JSONSerialization.jsonObject(with: content[begin..<(begin + size)])
        as? [String: Any]
    else { throw Failure.noManifest }
    return manifest
  }

  /// The lowest byte comes first.
  private static func number(in content: Data, at place: Int, bytes: Int) -> Int {
    (0..<bytes).reduce(0) { $0 | Int(content[place + $1]) << (8 * $1) }
  }
}
