import MediaPipeTasksVision
import UIKit

/// Classifies pictures by the file that `alexnet convert` wrote, which is a resource of the app,
/// `alexnet.tflite`. MediaPipe takes labels and types from the file; the crop is this class's part:
/// the shorter side is scaled to `resize` and the central square of `image_size` pixels is handed
/// over. Both stand in the file, so that another network needs no other code.
final class Classifier {
  enum Failure: Error {
    case noFile
    case noManifest
    case noPixels
  }

  private let resize: CGFloat
  private let side: CGFloat
  private let mediapipe: ImageClassifier

  init() throws {
    guard let path = Bundle.main.path(forResource: "alexnet", ofType: "tflite") else {
      throw Failure.noFile
    }
    let content = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    resize = CGFloat(try Classifier.number("resize", in: content))
    side = CGFloat(try Classifier.number("image_size", in: content))
    let options = ImageClassifierOptions()
    options.baseOptions.modelAssetPath = path
    options.maxResults = 5
    mediapipe = try ImageClassifier(options: options)
  }

  /// The five most probable classes, best first, each with its probability.
  func classify(_ picture: UIImage) throws -> [(name: String, probability: Float)] {
    let result = try mediapipe.classify(image: MPImage(uiImage: try centralSquare(of: picture)))
    let categories = result.classificationResult.classifications.first?.categories ?? []
    return categories.map { ($0.categoryName ?? "", $0.score) }
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

  /// A whole number of `manifest.json`, which is stored as it is in the zip archive at the end.
  private static func number(_ name: String, in content: Data) throws -> Int {
    guard let key = content.range(of: Data("\"\(name)\": ".utf8), options: .backwards) else {
      throw Failure.noManifest
    }
    let digits = content[key.upperBound...].prefix { (48...57).contains($0) }
    guard let value = Int(String(decoding: digits, as: UTF8.self)) else {
      throw Failure.noManifest
    }
    return value
  }
}
