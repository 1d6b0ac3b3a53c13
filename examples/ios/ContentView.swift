import PhotosUI
import SwiftUI

/// One button, which picks a picture, and its five most probable classes.
@main
struct AlexNetApp: App {
  var body: some Scene {
    WindowGroup { ContentView() }
  }
}

struct ContentView: View {
  private let classifier = Result { try Classifier() }
  @State private var picked: PhotosPickerItem?
  @State private var answer = ""

  var body: some View {
    VStack {
      PhotosPicker("Pick a picture", selection: $picked, matching: .images)
      Text(answer).monospaced()
    }
    .onChange(of: picked) { item in
      Task { answer = await classify(item) }
    }
  }

  private func classify(_ item: PhotosPickerItem?) async -> String {
    do {
      guard let data = try await item?.loadTransferable(type: Data.self),
        let picture = UIImage(data: data)
      else { return "That is no picture." }
      let best = try classifier.get().classify(picture)
      return best.map { String(format: "%.4f  %@", $0.probability, $0.name) }
        .joined(separator: "\n")
    } catch {
      return "\(error)"
    }
  }
}
